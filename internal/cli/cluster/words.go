package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/client"
)

// WithoutCommand returns an error of the client without the words about a command, for
// requests in which the user has typed none.
func WithoutCommand(err error) error {
	failed, ok := errors.AsType[*client.Error](err)
	if !ok || failed.Message == "" {
		return err
	}
	text := failed.Message
	for _, outcome := range []error{client.ErrNotStarted, client.ErrUnknown} {
		text = strings.TrimPrefix(text, outcome.Error()+": ")
	}
	if failed.RequestID != "" {
		text += " (request " + failed.RequestID + ")"
	}
	return &reworded{err, text}
}

// reworded is an error of a server in words for a person.
type reworded struct {
	error

	text string
}

func (e *reworded) Error() string { return e.text }

func (e *reworded) Unwrap() error { return e.error }

// singular is what a person calls an object of a resource.
var singular = map[string]string{Pools: "pool", Targets: "target", Sessions: "session", Connections: "connection"}

// hasNoTarget is in the message of the operator about a target that a pool does not select.
const hasNoTarget = " has no target "

// saysAllTargets reports whether the operator has said which targets the pool has. Of many
// it names only the first.
func saysAllTargets(err error) bool {
	return strings.Contains(err.Error(), hasNoTarget) && !strings.HasSuffix(err.Error(), ", ...")
}

// messageOf returns what a server says, without what the client puts before it.
func messageOf(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	return status.Status().Message
}

// inWords returns the error with a text for a person: without the field paths and the
// classes of API validation, and without what every command line says of itself.
func inWords(err error, what Asked) error {
	if message := messageOf(err); apierrors.IsNotFound(err) && strings.Contains(message, hasNoTarget) {
		return &reworded{err, message} // it may exist, and belong to other pools
	}
	if details := detailsOf(err); apierrors.IsNotFound(err) && singular[details.Kind] != "" && details.Name != "" && !isTargets(err) {
		text := fmt.Sprintf("there is no %s %q", singular[details.Kind], details.Name)
		if what.Namespace != "" {
			text += " in namespace " + what.Namespace
		}
		return &reworded{err, text}
	}
	text := err.Error()
	if failed, ok := errors.AsType[*client.Error](err); ok && apierrors.IsBadRequest(err) {
		text = strings.Replace(text, failed.Message, withFlags.Replace(withoutFields(failed.Message)), 1)
	} else if apierrors.IsBadRequest(err) {
		text = withoutFields(text)
	}
	if !strings.HasSuffix(what.Resource, "/exec") {
		text = strings.TrimPrefix(text, client.ErrNotStarted.Error()+": ")
	}
	if text == err.Error() {
		return err
	}
	return &reworded{err, text}
}

// validation matches where API validation begins to say what is wrong with a field.
var validation = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^\[?|, )([a-zA-Z][\w.\[\]]*): ` +
		`(Required value|Forbidden|Invalid value|Unsupported value|Duplicate value|Too long|Too many): `)
})

// flagOf is what a person calls a field.
var flagOf = map[string]string{
	"namespace": "--pod-namespace", "ttlSeconds": "--ttl", "idleTimeoutSeconds": "--idle-timeout", "timeoutSeconds": "--timeout",
	"command": "the command", "path": "the path", "port": "the port", "tty": "-t", "stdin": "-i",
}

// withFlags adds how a person names what a program puts into a field.
var withFlags = strings.NewReplacer(
	"name the container;", "name the container with --container;", "name the pod;", "name the pod with --pod;",
	"name the pod, and its namespace", "name the pod with --pod, and its namespace with --pod-namespace",
)

// withoutFields returns what is wrong, once, with flags instead of fields.
func withoutFields(message string) string {
	starts := validation().FindAllStringSubmatchIndex(message, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return message
	}
	var problems, said []string
	for i, start := range starts {
		end := len(message)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		path, class, rule := message[start[2]:start[3]], message[start[4]:start[5]], message[start[1]:end]
		rule, _, _ = strings.Cut(strings.TrimSuffix(rule, "]"), " (e.g. ")
		if slices.Contains(said, rule) {
			continue
		}
		said = append(said, rule)
		if class != "Required value" {
			rule = flagFor(path) + ": " + rule
		}
		problems = append(problems, rule)
	}
	return strings.Join(problems, "; ")
}

func flagFor(path string) string {
	name, _, _ := strings.Cut(path[strings.LastIndexByte(path, '.')+1:], "[")
	if flag, ok := flagOf[name]; ok {
		return flag
	}
	return "--" + name
}
