package exec

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

// request is one request to run a command.
type request struct {
	commands *Commands
	use      *use.Use
	backend  Backend
	rules    Rules
}

func (r *request) serve(w http.ResponseWriter, req *http.Request, options *live.ExecOptions, responder rest.Responder) error {
	switch {
	case stream.IsUpgrade(req):
		return r.stream(w, req, options)
	case req.Method == http.MethodPost:
		return r.post(w, req, responder)
	default:
		return refusal.NotStarted(refusal.BadRequest, "", "a command runs by POST with an Exec object, or by GET or POST "+
			"with an upgrade to WebSocket or SPDY")
	}
}

// stream runs a command whose streams are the client's. The lease comes before the
// upgrade, so that a client that gets none has an HTTP status.
func (r *request) stream(w http.ResponseWriter, req *http.Request, options *live.ExecOptions) error {
	command := queryCommand(options)
	r.aim(&command)
	env, problems := validateOptions(options, r.rules)
	if len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	command.Env = env
	runner, err := r.backend.Open(req.Context(), &command)
	if err != nil {
		return err
	}
	runner.Lease().Announce(w.Header(), r.use.RequestID)
	// The stream itself has to end with the permission: a write to a client that does
	// not read waits, and so would the command.
	ctx, stop := runner.Watch(req.Context())
	defer stop()
	upgraded := false
	wanted := stream.ExecOptions{Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, TTY: options.TTY}
	stream.ServeExec(w, req.WithContext(ctx), wanted,
		func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
			upgraded = true
			command.TTY = terminal(options, resize)
			result := r.run(ctx, runner, command.Command, streams)
			return streamStatus(&result, r.use.RequestID)
		})
	if !upgraded {
		runner.Close()
		r.use.AuditRefused(errNotUpgraded)
	}
	return nil
}

// errNotUpgraded is for the audit; the stream itself has answered the client.
var errNotUpgraded = refusal.New(refusal.BadRequest, "the streams were not opened")

// aim notes where a command wants to run, for the audit.
func (r *request) aim(command *Command) {
	if r.rules.choosesPlace() {
		r.use.Target, r.use.Place = command.Target, command.Place
	}
}

// run runs a command and closes its runner. ctx is one of the runner's Watch.
func (r *request) run(ctx context.Context, runner Runner, command driver.Command, streams driver.Streams) use.Result {
	defer runner.Close()
	r.use.AuditStarted(runner.Lease(), &command)
	var bytes use.Traffic
	began := time.Now()
	status, err := runner.Run(ctx, command, bytes.Count(streams))
	result := use.Result{Lease: runner.Lease(), Duration: time.Since(began), Code: status.Code, Signal: status.Signal}
	result.Conclude(ctx, err)
	r.explain(ctx, &result)
	r.use.AuditEnded(&result, &bytes)
	return result
}

// explain says in the message of a command that has not completed whether it may
// have run.
func (r *request) explain(ctx context.Context, result *use.Result) {
	switch result.Outcome {
	case live.OutcomeNotStarted:
		result.Message = "the command was not started: " + result.Message
	case live.OutcomeUnknown:
		result.Message = fmt.Sprintf("the command of request %s may have run and nobody knows how it ended: %s",
			r.use.RequestID, result.Message)
		if errors.Is(context.Cause(ctx), use.ErrTimeout) {
			result.Message += r.rules.AfterTimeout
		}
	case live.OutcomeCompleted:
	}
}
