package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// maxExecBytes bounds the encoded Exec object: its stdin grows by a third.
const maxExecBytes = 2 << 20

// postExec runs the command of an Exec object and answers the object with its
// result. Every outcome of a command that had a lease is a 200: whatever fails by
// the HTTP status, somebody on the way might send again.
func (c *call) postExec(w http.ResponseWriter, req *http.Request, responder rest.Responder) error {
	release, err := c.holdBody(c.userName(), req.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	// The output is held until it is sent.
	c.stdout, c.stderr = c.newCapture(c.userName()), c.newCapture(c.userName())
	defer c.stdout.release()
	defer c.stderr.release()
	object, err := c.readExec(w, req)
	if err != nil {
		return err
	}
	spec := &object.Spec
	c.target = spec.Target
	c.place = driver.Place{Container: spec.Container, Pod: spec.Pod, Namespace: spec.Namespace}
	if problems := validateExec(spec); len(problems) > 0 {
		return invalid(problems)
	}
	pool, err := c.poolObject(req.Context())
	if err != nil {
		return err
	}
	var status *live.ExecStatus
	if spec.RequestID == "" {
		status, err = c.execute(req.Context(), pool, spec)
	} else {
		c.requestID = spec.RequestID
		status, err = c.executeOnce(req.Context(), pool, spec)
	}
	if err != nil {
		return err
	}
	object.Status = *status
	object.Namespace, object.Name = c.pool.namespace, c.pool.name
	// What went in need not come back; it may be long, and secret.
	object.Spec.Stdin, object.Spec.Env = nil, nil
	responder.Object(http.StatusOK, object)
	return nil
}

// readExec reads the body strictly: a misspelt field must not change what runs.
func (c *call) readExec(w http.ResponseWriter, req *http.Request) (*live.Exec, error) {
	body, err := readBody(w, req)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refused(tooLarge, fmt.Sprintf(
			"the Exec object is longer than %d bytes; stream the input instead, with an upgrade to WebSocket or SPDY", maxExecBytes))
	}
	if err != nil {
		return nil, refused(badRequest, fmt.Sprintf("the body ended early, or did not arrive within %s", bodyTimeout))
	}
	if body, err = toJSON(req.Header.Get("Content-Type"), body); err != nil {
		return nil, err
	}
	object := new(live.Exec)
	strict, err := kjson.UnmarshalStrict(body, object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, refused(badRequest, "the body is no Exec object: "+plain(err.Error()))
	}
	return object, c.checkIdentity(object)
}

// toJSON turns the body into JSON if it is something else that is known.
func toJSON(contentType string, body []byte) ([]byte, error) {
	media, _, _ := mime.ParseMediaType(contentType)
	switch media {
	case "", "application/json", "application/x-www-form-urlencoded": // the last is what curl says by itself
		return body, nil
	case "application/yaml":
		converted, err := yaml.YAMLToJSONStrict(body)
		if err != nil {
			return nil, refused(badRequest, "the body is no YAML: "+plain(err.Error()))
		}
		return converted, nil
	default:
		return nil, refused(unknownMedia, "send the Exec object as application/json or application/yaml")
	}
}

// checkIdentity compares what the object says of itself with where it was sent.
func (c *call) checkIdentity(object *live.Exec) error {
	var problems field.ErrorList
	for _, fact := range []struct {
		at        *field.Path
		got, want string
	}{
		{field.NewPath("apiVersion"), object.APIVersion, live.GroupVersion.String()},
		{field.NewPath("kind"), object.Kind, "Exec"},
		{field.NewPath("metadata", "namespace"), object.Namespace, c.pool.namespace},
		{field.NewPath("metadata", "name"), object.Name, cmp.Or(c.session, c.pool.name)},
	} {
		if fact.got != "" && fact.got != fact.want {
			problems = append(problems, field.Invalid(fact.at, plain(fact.got), "must be "+fact.want+" here, or be left out"))
		}
	}
	if len(problems) > 0 {
		return invalid(problems)
	}
	object.APIVersion, object.Kind = live.GroupVersion.String(), "Exec"
	return nil
}

// execute runs a command and keeps what it says, as far as that is bounded. An
// error means that nothing was started.
func (c *call) execute(ctx context.Context, pool *v1alpha1.ConnectionPool, spec *live.ExecSpec) (*live.ExecStatus, error) {
	root := field.NewPath("spec")
	to, err := c.route(ctx, pool, root.Child("target"), spec.Target)
	if err != nil {
		return nil, err
	}
	lease, err := c.acquireFit(ctx, to, fitCommand(root, c.place, spec.Subsystem))
	if err != nil {
		return nil, err
	}
	if spec.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(spec.TimeoutSeconds)*time.Second, errTimeout)
		defer cancel()
	}
	ctx, stop := c.watch(ctx, c.permission)
	defer stop()
	streams := driver.Streams{Stdout: c.stdout, Stderr: c.stderr}
	if len(spec.Stdin) > 0 {
		streams.Stdin = bytes.NewReader(spec.Stdin)
	}
	command := driver.Command{Place: c.place, Argv: spec.Command, Shell: spec.Shell, Subsystem: spec.Subsystem, Env: spec.Env}
	status := c.run(ctx, to, lease, command, streams).result()
	status.Stdout, status.StdoutBytes = c.stdout.text()
	status.Stderr, status.StderrBytes = c.stderr.text()
	status.Truncated = c.stdout.truncated || c.stderr.truncated
	return &status, nil
}
