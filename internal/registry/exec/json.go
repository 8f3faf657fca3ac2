package exec

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// maxExecBytes bounds the encoded Exec object: its stdin grows by a third.
const maxExecBytes = 2 << 20

// readExec reads the body strictly: a misspelled field must not change what runs.
func readExec(w http.ResponseWriter, req *http.Request, namespace, name string) (*live.Exec, error) {
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
	return object, checkIdentity(object, namespace, name)
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
func checkIdentity(object *live.Exec, namespace, name string) error {
	var problems field.ErrorList
	for _, fact := range []struct {
		at        *field.Path
		got, want string
	}{
		{field.NewPath("apiVersion"), object.APIVersion, live.GroupVersion.String()},
		{field.NewPath("kind"), object.Kind, "Exec"},
		{field.NewPath("metadata", "namespace"), object.Namespace, namespace},
		{field.NewPath("metadata", "name"), object.Name, name},
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
