package exec

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/idempotency"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

// post runs the command of an Exec object and answers the object with its result.
// Every outcome of a command that had a lease is a 200, because a client or a proxy
// may repeat a request whose HTTP status is a failure.
func (r *request) post(w http.ResponseWriter, req *http.Request, responder rest.Responder) error {
	release, err := r.commands.holdBody(r.use.UserName(), req.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	// The output is held until it is sent.
	out := newOutput(r.commands.output, r.use.UserName())
	defer out.release()
	object, err := r.readExec(w, req)
	if err != nil {
		return err
	}
	command := specCommand(&object.Spec)
	r.aim(&command)
	if problems := validateSpec(&object.Spec, r.rules); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	status, err := r.executeOnce(req.Context(), &command, &object.Spec, out)
	if err != nil {
		return err
	}
	object.Status = *status
	object.Namespace, object.Name = r.use.PoolName.Namespace, r.name()
	// The client need not get its input back; it may be long, and secret.
	object.Spec.Stdin, object.Spec.Env = nil, nil
	responder.Object(http.StatusOK, object)
	return nil
}

// name returns the name of the pool or session in which the command runs.
func (r *request) name() string { return cmp.Or(r.use.Session, r.use.PoolName.Name) }

// holdBody counts the body of a request until release is called once. A body of
// unknown length counts like the longest.
func (c *Commands) holdBody(user string, length int64) (release func(), err error) {
	if length < 0 || length > maxExecBytes {
		length = maxExecBytes
	}
	if !c.input.Take(user, length) {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "", "the operator holds too much input of other commands; "+
			"try again later, or stream the input, with an upgrade to WebSocket or SPDY")
	}
	return func() { c.input.Add(user, -length) }, nil
}

// readExec reads the body strictly: a misspelled field must not change what runs.
func (r *request) readExec(w http.ResponseWriter, req *http.Request) (*live.Exec, error) {
	body, err := readBody(w, req)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refusal.New(refusal.TooLarge, fmt.Sprintf(
			"the Exec object is longer than %d bytes; stream the input instead, with an upgrade to WebSocket or SPDY", maxExecBytes))
	}
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, fmt.Sprintf("the body ended early, or did not arrive within %s", bodyTimeout))
	}
	if body, err = toJSON(req.Header.Get("Content-Type"), body); err != nil {
		return nil, err
	}
	object := new(live.Exec)
	strict, err := kjson.UnmarshalStrict(body, object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, refusal.New(refusal.BadRequest, "the body is no Exec object: "+driver.Sanitize(err.Error()))
	}
	return object, r.checkIdentity(object)
}

// bodyTimeout bounds how long a client may take to send an Exec object.
const bodyTimeout = 30 * time.Second

// readBody reads a body of bounded length in bounded time. After that, the HTTP server
// itself removes the deadline, because it reads on to notice that the client leaves.
func readBody(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	// A response without deadlines is one in memory, whose client is not slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return io.ReadAll(http.MaxBytesReader(w, req.Body, maxExecBytes))
}

// toJSON returns the body as JSON. It knows JSON and YAML.
func toJSON(contentType string, body []byte) ([]byte, error) {
	media, _, _ := mime.ParseMediaType(contentType)
	switch media {
	case "", "application/json", "application/x-www-form-urlencoded": // the last is what curl sends unless told otherwise
		return body, nil
	case "application/yaml":
		converted, err := yaml.YAMLToJSONStrict(body)
		if err != nil {
			return nil, refusal.New(refusal.BadRequest, "the body is no YAML: "+driver.Sanitize(err.Error()))
		}
		return converted, nil
	default:
		return nil, refusal.New(refusal.UnknownMedia, "send the Exec object as application/json or application/yaml")
	}
}

// checkIdentity compares the type and the name in the object with where it was sent.
func (r *request) checkIdentity(object *live.Exec) error {
	var problems field.ErrorList
	for _, fact := range []struct {
		at        *field.Path
		got, want string
	}{
		{field.NewPath("apiVersion"), object.APIVersion, live.GroupVersion.String()},
		{field.NewPath("kind"), object.Kind, "Exec"},
		{field.NewPath("metadata", "namespace"), object.Namespace, r.use.PoolName.Namespace},
		{field.NewPath("metadata", "name"), object.Name, r.name()},
	} {
		if fact.got != "" && fact.got != fact.want {
			problems = append(problems, field.Invalid(fact.at, driver.Sanitize(fact.got), "must be "+fact.want+" here, or be left out"))
		}
	}
	if len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	object.APIVersion, object.Kind = live.GroupVersion.String(), "Exec"
	return nil
}

// executeOnce executes a command unless its request has an ID under which one runs or
// has run: then the result of that is the answer.
func (r *request) executeOnce(ctx context.Context, command *Command, spec *live.ExecSpec, out *output) (*live.ExecStatus, error) {
	if spec.RequestID == "" {
		return r.execute(ctx, command, spec, out)
	}
	scope, err := r.backend.Scope(ctx)
	if err != nil {
		return nil, err
	}
	r.use.RequestID = spec.RequestID
	began := time.Now()
	key := idempotency.Key{User: r.use.UserName(), Scope: scope, ID: spec.RequestID}
	status, repeated, err := r.commands.results.Do(ctx, key, spec, r.lost, func(ctx context.Context) (*live.ExecStatus, error) {
		return r.execute(ctx, command, spec, out)
	})
	if repeated {
		r.use.Audit("use repeated", "wait", time.Since(began))
	}
	return status, err
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

// execute runs a command and keeps its output within the bounds. An error means that
// nothing was started.
func (r *request) execute(ctx context.Context, command *Command, spec *live.ExecSpec, out *output) (*live.ExecStatus, error) {
	runner, err := r.backend.Open(ctx, command)
	if err != nil {
		return nil, err
	}
	if spec.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(spec.TimeoutSeconds)*time.Second, use.ErrTimeout)
		defer cancel()
	}
	ctx, stop := runner.Watch(ctx)
	defer stop()
	streams := driver.Streams{Stdout: &out.stdout, Stderr: &out.stderr}
	if len(spec.Stdin) > 0 {
		streams.Stdin = bytes.NewReader(spec.Stdin)
	}
	result := r.run(ctx, runner, command.Command, streams)
	status := execStatus(&result, r.use.RequestID)
	out.putInto(status)
	return status, nil
}
