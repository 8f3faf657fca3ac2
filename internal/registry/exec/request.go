package exec

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/fanout"
	"github.com/connpool/connpool/internal/registry/idempotency"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/registry/output"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

// Commands runs commands within common bounds. It is safe for concurrent use.
type Commands struct {
	memory  limits.Memory
	results *idempotency.Results
	// running are the commands on many targets.
	running fanout.Running[idempotency.Key]
	// encoding is held while an answer is encoded, which takes several times its length.
	encoding sync.Mutex
}

// NewCommands returns Commands that have run nothing yet.
func NewCommands(memory limits.Memory) *Commands {
	return &Commands{memory: memory, results: idempotency.New(memory.Results)}
}

// Storage returns the subresource whose requests are admitted like that.
func (c *Commands) Storage(admit AdmitFunc) rest.Storage {
	return &use.Subresource[*live.ExecOptions]{
		Object: &live.Exec{}, Options: &live.ExecOptions{}, Methods: []string{http.MethodGet, http.MethodPost},
		Admit: func(ctx context.Context, name string) (*use.Use, use.ServeFunc[*live.ExecOptions], error) {
			u, backend, err := admit(ctx, name)
			if err != nil {
				return nil, nil, err
			}
			r := &request{commands: c, use: u, backend: backend}
			return u, r.serve, nil
		},
	}
}

type request struct {
	commands *Commands
	use      *use.Use
	backend  Backend
}

func (r *request) serve(
	w http.ResponseWriter, req *http.Request, _ *use.Use, options *live.ExecOptions, _ rest.Responder,
) error {
	switch {
	case stream.IsUpgrade(req):
		return r.stream(w, req, options)
	case req.Method == http.MethodPost:
		return r.post(w, req)
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
	env, problems := validateOptions(options, r.backend.Rules)
	if len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	command.Env = env
	runner, err := r.open(req.Context(), &command)
	if err != nil {
		return err
	}
	defer runner.Close()
	runner.Lease().Announce(w.Header(), r.use.RequestID)
	// The stream itself has to end with the permission: a write to a client that does
	// not read waits, and so would the command.
	ctx, stop := runner.Watch(req.Context())
	defer stop()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(context.Canceled)
	upgraded := false
	wanted := stream.ExecOptions{Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, TTY: options.TTY}
	stream.ServeExec(w, req.WithContext(ctx), wanted,
		func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
			upgraded = true
			command.TTY = terminal(options, resize)
			defer r.deliver(&streams, cut)()
			result := r.run(ctx, runner, command.Command, streams)
			return streamStatus(&result, r.use.RequestID)
		})
	if !upgraded {
		r.use.AuditRefused(errNotUpgraded)
	}
	return nil
}

// deliver watches what the client takes of the output until stop is called.
func (r *request) deliver(streams *driver.Streams, cut context.CancelCauseFunc) (stop func()) {
	var all []*delivery.Delivery
	for _, out := range []*io.Writer{&streams.Stdout, &streams.Stderr} {
		if *out != nil {
			d := r.use.Gate.Deliveries.Begin(r.use.Owner(), func() { cut(stream.ErrUnread) })
			*out, all = d.Writer(*out), append(all, d)
		}
	}
	return func() {
		for _, d := range all {
			d.Close()
		}
	}
}

// errNotUpgraded is for the audit; the stream itself has answered the client.
var errNotUpgraded = refusal.New(refusal.BadRequest, "the streams were not opened")

func (r *request) aim(command *Command) {
	if r.backend.Forbidden["target"] == "" {
		r.use.Target, r.use.Place = command.Target, command.Place
	}
}

// holdBody counts a body until release is called once; one of unknown length is the longest.
func (c *Commands) holdBody(owner quota.Owner, length int64) (release func(), err error) {
	if length < 0 || length > maxExecBytes {
		length = maxExecBytes
	}
	if full := c.memory.Input.Take(owner, length); full != quota.Free {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
			"the operator is holding too much input for other commands of %s; "+
				"try again later, or stream the input, with an upgrade to WebSocket or SPDY", full))
	}
	return func() { c.memory.Input.Add(owner, -length) }, nil
}

// post runs the command of an Exec object and answers the object with its result.
// Every outcome of a command that had a lease is a 200, because a client or a proxy
// may repeat a request whose HTTP status is a failure.
func (r *request) post(w http.ResponseWriter, req *http.Request) error {
	release, err := r.commands.holdBody(r.use.Owner(), req.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	// Its encoded form counts until it is sent.
	out := output.New(r.commands.memory.Output, r.use.Owner(), live.MaxExecOutputBytes)
	defer out.Release()
	body, err := readJSON(w, req)
	if err != nil {
		return err
	}
	r.use.Figures.Accepted()
	if r.backend.List != nil && kindOf(body) == kindListing {
		return r.list(w, req, body, out)
	}
	object := new(live.Exec)
	if err := decode(body, object, kindExec); err != nil {
		return err
	}
	if err := r.identify(&object.TypeMeta, &object.ObjectMeta, kindExec); err != nil {
		return err
	}
	if targets := object.Spec.Targets; targets != nil && targets.Stop && r.backend.Part != nil {
		return r.stopMany(req.Context(), w, object)
	}
	command := specCommand(&object.Spec)
	r.aim(&command)
	if problems := validateSpec(&object.Spec, r.backend.Rules); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	if object.Spec.Targets != nil {
		return r.postMany(w, req, &object.Spec, out)
	}
	return r.postOne(w, req, object, &command, out)
}

// postOne runs the command on one target.
func (r *request) postOne(w http.ResponseWriter, req *http.Request, object *live.Exec, command *Command, out *output.Output) error {
	once, err := r.once(req.Context(), &object.Spec)
	if err != nil {
		return err
	}
	status, repeated, err := r.executeOnce(req.Context(), once, command, &object.Spec, out)
	if err != nil {
		return err
	}
	object.Status = *status
	// The client need not get its input back; it may be long, and secret.
	object.Spec.Stdin, object.Spec.Env = nil, nil
	text := r.commands.encode(object)
	if full := out.Cover(len(text)); repeated && full != quota.Free {
		return refusal.New(refusal.TooManyRequests, fmt.Sprintf("the command has run, and its result is remembered, but the operator "+
			"is holding too much output for other commands of %s; send the same request again later", full))
	}
	send(w, text)
	return nil
}

// identify checks that an object is sent to the pool or session that it names, if it does.
func (r *request) identify(claim *metav1.TypeMeta, object *metav1.ObjectMeta, kind string) error {
	return checkIdentity(claim, object, kind, r.use.PoolName.Namespace, cmp.Or(r.use.Session, r.use.PoolName.Name))
}

// list answers a Listing object with what was found, which counts until it is sent.
func (r *request) list(w http.ResponseWriter, req *http.Request, body []byte, out *output.Output) error {
	object := new(live.Listing)
	if err := decode(body, object, kindListing); err != nil {
		return err
	}
	if err := r.identify(&object.TypeMeta, &object.ObjectMeta, kindListing); err != nil {
		return err
	}
	status, err := r.backend.List(req.Context(), &object.Spec)
	if err != nil {
		return err
	}
	object.Status = *status
	text := r.commands.encode(object)
	if full := out.Cover(len(text)); full != quota.Free {
		return refusal.New(refusal.TooManyRequests, fmt.Sprintf(
			"the operator holds too much output of other commands of %s; try again later", full))
	}
	send(w, text)
	return nil
}

// encode returns the JSON of an answer. One is encoded at a time.
func (c *Commands) encode(object any) []byte {
	c.encoding.Lock()
	defer c.encoding.Unlock()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(object) //nolint:errchkjson // an Exec or a Listing always has a JSON form
	return bytes.Clone(text.Bytes())
}

// sendTimeout bounds how long a client may take to read the answer to an Exec object.
const sendTimeout = time.Minute

// send writes an answer in bounded time, because its bytes count as long as they are
// held. The deadline must not stay for the next request on the connection.
func send(w http.ResponseWriter, text []byte) {
	controller := http.NewResponseController(w)
	// A response without deadlines is one in memory, whose client is not slow.
	_ = controller.SetWriteDeadline(time.Now().Add(sendTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(text); err != nil || controller.Flush() != nil {
		return
	}
	_ = controller.SetWriteDeadline(time.Time{})
}

// once is what keeps a command from running twice.
type once struct {
	key    idempotency.Key
	digest idempotency.Digest
}

// once returns what keeps a command from running twice; nil without a request ID.
func (r *request) once(ctx context.Context, spec *live.ExecSpec) (*once, error) {
	if spec.RequestID == "" {
		return nil, nil //nolint:nilnil // most commands have no ID
	}
	r.use.RequestID = spec.RequestID
	key, err := r.key(ctx, spec.RequestID)
	if err != nil {
		return nil, err
	}
	return &once{key: key, digest: idempotency.DigestOf(spec)}, nil
}

// key returns what identifies the command of a request ID.
func (r *request) key(ctx context.Context, id string) (idempotency.Key, error) {
	scope, err := r.backend.Scope(ctx)
	return idempotency.Key{Owner: r.use.Owner(), UID: r.use.User().GetUID(), Scope: scope, ID: id}, err
}

// executeOnce executes a command unless one runs, or has run, under its request ID.
func (r *request) executeOnce(
	ctx context.Context, once *once, command *Command, spec *live.ExecSpec, out *output.Output,
) (status *live.ExecStatus, repeated bool, err error) {
	if once == nil {
		status, err = r.execute(ctx, command, spec, out)
		return status, false, err
	}
	began := time.Now()
	status, repeated, err = r.commands.results.Do(ctx, once.key, once.digest, r.lost, func(ctx context.Context) (*live.ExecStatus, error) {
		return r.execute(ctx, command, spec, out)
	})
	if repeated {
		r.use.Audit("use repeated", "wait", time.Since(began))
	}
	return status, repeated, err
}

// lost returns the result of a command of which the operator itself lost track.
func (r *request) lost() *live.ExecStatus {
	var result use.Result
	result.Conclude(context.Background(), &driver.Error{
		Reason: driver.ProtocolError, Started: true, Message: "the operator failed while it ran; see its log",
	})
	r.explain(context.Background(), &result)
	return execStatus(&result, r.use.RequestID)
}

// execute runs a command. An error means that nothing was started.
func (r *request) execute(ctx context.Context, command *Command, spec *live.ExecSpec, out *output.Output) (*live.ExecStatus, error) {
	runner, err := r.open(ctx, command)
	if err != nil {
		return nil, err
	}
	defer runner.Close()
	if spec.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(spec.TimeoutSeconds)*time.Second, use.ErrTimeout)
		defer cancel()
	}
	ctx, stop := runner.Watch(ctx)
	defer stop()
	streams := driver.Streams{Stdout: out.Stdout(), Stderr: out.Stderr()}
	if len(spec.Stdin) > 0 {
		streams.Stdin = bytes.NewReader(spec.Stdin)
	}
	result := r.run(ctx, runner, command.Command, streams)
	status := execStatus(&result, r.use.RequestID)
	out.PutInto(status)
	return status, nil
}

// open gets a runner that may be closed more than once: after its run, so that nothing is
// held while the client reads, and in any case at the end, even after a panic.
func (r *request) open(ctx context.Context, command *Command) (Runner, error) {
	runner, err := r.backend.Open(ctx, command)
	if err != nil {
		return nil, err
	}
	return closableRunner{runner, sync.OnceFunc(runner.Close)}, nil
}

type closableRunner struct {
	Runner

	closeOnce func()
}

// Close implements Runner.
func (r closableRunner) Close() { r.closeOnce() }

func (r *request) run(ctx context.Context, runner Runner, command driver.Command, streams driver.Streams) use.Result {
	defer runner.Close()
	var bytes traffic.Bytes
	r.use.AuditStarted(runner.Lease(), &command, &bytes)
	streams.Started = r.use.Figures.CommandStarted
	began := time.Now()
	status, err := runner.Run(ctx, command, bytes.Count(streams))
	result := use.Result{Lease: runner.Lease(), Duration: time.Since(began), Code: status.Code, Signal: status.Signal}
	result.Conclude(ctx, err)
	r.explain(ctx, &result)
	r.use.AuditEnded(&result, &bytes)
	return result
}

// explain says in the message of a command whether it may have run.
func (r *request) explain(ctx context.Context, result *use.Result) {
	switch result.Outcome {
	case live.OutcomeNotStarted:
		result.Message = "the command was not started: " + result.Message
	case live.OutcomeUnknown:
		result.Message = fmt.Sprintf("the command of request %s may have run, and its outcome is not known: %s",
			r.use.RequestID, result.Message)
		if errors.Is(context.Cause(ctx), use.ErrTimeout) {
			result.Message += r.backend.AfterTimeout
		}
	case live.OutcomeCompleted:
	}
}
