package exec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/fanout"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/unicode"
	"github.com/connpool/connpool/internal/registry/validate"
)

const (
	maxRequestIDLength = 128
	maxTermLength      = 64
	maxSubsystemLength = 128
)

func validateSpec(spec *live.ExecSpec, rules Rules) field.ErrorList {
	command := specCommand(spec)
	root := command.Root
	problems := append(validateKind(&command), validateWords(&command)...)
	problems = append(problems, validate.Environment(root.Child("env"), spec.Env)...)
	if len(spec.Stdin) > live.MaxExecStdinBytes {
		problems = append(problems, field.TooLong(root.Child("stdin"), "", live.MaxExecStdinBytes))
	}
	if spec.TimeoutSeconds < 0 {
		problems = append(problems, field.Invalid(root.Child("timeoutSeconds"), spec.TimeoutSeconds, "must not be negative"))
	}
	problems = append(problems, validatePrintable(root.Child("requestID"), spec.RequestID, maxRequestIDLength)...)
	problems = append(problems, fanout.Validate(root, spec)...)
	return append(problems, rules.forbid(root, map[string]bool{
		"target": spec.Target != "", "container": spec.Container != "", "pod": spec.Pod != "", "namespace": spec.Namespace != "",
		"subsystem": spec.Subsystem != "", "env": len(spec.Env) > 0, "stdin": len(spec.Stdin) > 0, "targets": spec.Targets != nil,
	})...)
}

// validateOptions returns the environment of a streamed command, and what is wrong with
// its query.
func validateOptions(options *live.ExecOptions, rules Rules) (map[string]string, field.ErrorList) {
	var problems field.ErrorList
	command := queryCommand(options)
	login := options.TTY && rules.Forbidden["tty"] == "" &&
		len(command.Argv) == 0 && command.Shell == "" && command.Subsystem == ""
	if !login {
		problems = validateKind(&command)
	}
	problems = append(problems, validateWords(&command)...)
	problems = append(problems, rules.forbid(nil, map[string]bool{
		"target": options.Target != "", "container": options.Container != "", "pod": options.Pod != "",
		"namespace": options.Namespace != "", "subsystem": options.Subsystem != "", "env": len(options.Env) > 0,
		"stdin": options.Stdin, "tty": options.TTY, "term": options.Term != "", "spread": options.Spread,
	})...)
	problems = append(problems, validateStreams(options, rules)...)
	if rules.Forbidden["tty"] == "" {
		problems = append(problems, validateTerminal(options)...)
	}
	if rules.Forbidden["env"] != "" {
		return nil, problems
	}
	env, malformed := readEnvironment(field.NewPath("env"), options.Env)
	problems = append(problems, malformed...)
	return env, append(problems, validate.Environment(field.NewPath("env"), env)...)
}

func (r Rules) forbid(root *field.Path, set map[string]bool) (problems field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(r.Forbidden)) {
		if set[name] {
			problems = append(problems, field.Forbidden(root.Child(name), r.Forbidden[name]))
		}
	}
	return problems
}

func validateStreams(options *live.ExecOptions, rules Rules) field.ErrorList {
	hasStdin := rules.Forbidden["stdin"] == ""
	switch {
	case options.Stdout, options.Stderr, options.Stdin && hasStdin:
		return nil
	case hasStdin:
		return field.ErrorList{field.Required(field.NewPath("stdin"), "ask for at least one of stdin, stdout and stderr")}
	default:
		return field.ErrorList{field.Required(field.NewPath("stdout"), "ask for at least one of stdout and stderr")}
	}
}

func validateTerminal(options *live.ExecOptions) (problems field.ErrorList) {
	if options.TTY && options.Stderr {
		problems = append(problems, field.Invalid(field.NewPath("stderr"), true,
			"a terminal has no separate stderr; leave it out with tty"))
	}
	return append(problems, validatePrintable(field.NewPath("term"), options.Term, maxTermLength)...)
}

// validateKind refuses all but exactly one of command, shell and subsystem.
func validateKind(c *Command) field.ErrorList {
	set := 0
	for _, isSet := range []bool{len(c.Argv) > 0, c.Shell != "", c.Subsystem != ""} {
		if isSet {
			set++
		}
	}
	if set == 1 {
		return nil
	}
	const rule = "set exactly one of command, shell and subsystem"
	at := c.Root.Child("command")
	if set == 0 {
		return field.ErrorList{field.Required(at, rule)}
	}
	return field.ErrorList{field.Forbidden(at, rule)}
}

func validateWords(c *Command) (problems field.ErrorList) {
	at := c.Root.Child("command")
	if len(c.Argv) > live.MaxCommandArguments { // each of which could be wrong
		return field.ErrorList{field.TooMany(at, len(c.Argv), live.MaxCommandArguments)}
	}
	size := 0
	for i, word := range c.Argv {
		size += len(word)
		problems = append(problems, validateNUL(at.Index(i), word)...)
	}
	switch {
	case size > live.MaxCommandBytes:
		problems = append(problems, field.TooLong(at, "", live.MaxCommandBytes))
	case len(c.Argv) > 0 && c.Argv[0] == "":
		problems = append(problems, field.Required(at.Index(0), "the name of the program must not be empty"))
	}
	if len(c.Shell) > live.MaxCommandBytes {
		problems = append(problems, field.TooLong(c.Root.Child("shell"), "", live.MaxCommandBytes))
	}
	problems = append(problems, validateNUL(c.Root.Child("shell"), c.Shell)...)
	if len(c.Subsystem) > maxSubsystemLength || !validate.Printable(c.Subsystem) {
		problems = append(problems, field.Invalid(c.Root.Child("subsystem"), driver.Sanitize(c.Subsystem), fmt.Sprintf(
			"must be at most %d printable characters, such as sftp", maxSubsystemLength)))
	}
	return problems
}

func validateNUL(at *field.Path, words string) field.ErrorList {
	if !strings.ContainsRune(words, 0) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, driver.Sanitize(words), "must not contain a NUL character")}
}

func readEnvironment(at *field.Path, pairs []string) (env map[string]string, problems field.ErrorList) {
	if len(pairs) > live.MaxCommandArguments {
		return nil, field.ErrorList{field.TooMany(at, len(pairs), live.MaxCommandArguments)}
	}
	for i, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		_, doubled := env[name]
		switch {
		case !found: // its words may be a secret
			problems = append(problems, field.Invalid(at.Index(i), "", "must be NAME=value"))
		case doubled:
			problems = append(problems, field.Duplicate(at.Index(i), driver.Sanitize(name)))
		case env == nil:
			env = map[string]string{name: value}
		default:
			env[name] = value
		}
	}
	return env, problems
}

func validatePrintable(at *field.Path, words string, most int) field.ErrorList {
	switch {
	case len(words) > most:
		return field.ErrorList{field.TooLong(at, "", most)}
	case !validate.Printable(words):
		return field.ErrorList{field.Invalid(at, driver.Sanitize(words), "must not contain control characters")}
	}
	return nil
}

// specCommand returns the command of the JSON form, but for its input.
func specCommand(spec *live.ExecSpec) Command {
	return Command{
		Command: driver.Command{
			Place: driver.Place{Container: spec.Container, Pod: spec.Pod, Namespace: spec.Namespace},
			Argv:  spec.Command, Shell: spec.Shell, Subsystem: spec.Subsystem, Env: spec.Env,
		},
		Target: spec.Target, Root: field.NewPath("spec"),
	}
}

// queryCommand returns the command of a query, but for its environment and terminal.
func queryCommand(options *live.ExecOptions) Command {
	return Command{
		Command: driver.Command{
			Place: driver.Place{Container: options.Container, Pod: options.Pod, Namespace: options.Namespace},
			Argv:  options.Command, Shell: options.Shell, Subsystem: options.Subsystem,
		},
		Target: options.Target, Spread: options.Spread,
	}
}

func terminal(options *live.ExecOptions, resize <-chan driver.WindowSize) *driver.TTY {
	if !options.TTY {
		return nil
	}
	return &driver.TTY{Term: options.Term, Size: firstSize(resize), Resize: resize}
}

// firstSize returns the size that the client has sent by now, or the one that
// terminals have had since the VT100; most clients send theirs a moment later.
func firstSize(resize <-chan driver.WindowSize) driver.WindowSize {
	select {
	case size, ok := <-resize:
		if ok {
			return size
		}
	default:
	}
	return driver.WindowSize{Columns: 80, Rows: 24}
}

// maxExecBytes bounds the encoded Exec object: its stdin grows by a third.
const maxExecBytes = 2 << 20

// readJSON returns the body of a request that is an object.
func readJSON(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if !isJSON(req.Header.Get("Content-Type")) {
		return nil, refusal.New(refusal.UnknownMedia, "send the Exec object as JSON, with the Content-Type application/json")
	}
	body, err := readBody(w, req)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refusal.New(refusal.TooLarge, fmt.Sprintf(
			"the Exec object is longer than %d bytes; send long input by a stream, with an upgrade to WebSocket or SPDY, "+
				"and choose many targets by a selector", maxExecBytes))
	}
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, fmt.Sprintf("the body ended early, or did not arrive within %s", bodyTimeout))
	}
	return body, nil
}

const (
	kindExec    = "Exec"
	kindListing = "Listing"
)

// kindOf returns the kind that an object claims to be, or "".
func kindOf(body []byte) string {
	var claim metav1.TypeMeta
	_ = json.Unmarshal(body, &claim) // decode says what is wrong
	return claim.Kind
}

// decode reads an object strictly: a misspelled field must not change what runs.
func decode(body []byte, object any, kind string) error {
	if !unicode.IsText(body) {
		return refusal.New(refusal.BadRequest, "the body has bytes or escapes that are no Unicode, "+
			"and other characters would run in their place; a stream, by an upgrade to WebSocket or SPDY, takes any bytes")
	}
	strict, err := kjson.UnmarshalStrict(body, object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return refusal.New(refusal.BadRequest, "the body is not a valid "+kind+" object: "+driver.Sanitize(err.Error()))
	}
	return nil
}

// bodyTimeout bounds how long a client may take to send an Exec object.
const bodyTimeout = 30 * time.Second

// readBody reads a body of bounded length in bounded time. After that, the HTTP server
// itself removes the deadline, because it reads on to notice that the client leaves.
func readBody(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if req.ContentLength > maxExecBytes { // a client that waits for 100 Continue sends nothing then
		return nil, &http.MaxBytesError{Limit: maxExecBytes}
	}
	// A response without deadlines is one in memory, whose client is not slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return io.ReadAll(http.MaxBytesReader(w, req.Body, maxExecBytes))
}

// isJSON reports whether a body claims to be JSON. Without a claim it is taken for it,
// and so it is with the one that curl makes unless told otherwise.
func isJSON(contentType string) bool {
	media, _, _ := mime.ParseMediaType(contentType)
	return slices.Contains([]string{"", "application/json", "application/x-www-form-urlencoded"}, media)
}

// checkIdentity compares the type and the name in an object with where it was sent, and
// fills them in.
func checkIdentity(claim *metav1.TypeMeta, object *metav1.ObjectMeta, kind, namespace, name string) error {
	var problems field.ErrorList
	for _, fact := range []struct {
		at        *field.Path
		got, want string
	}{
		{field.NewPath("apiVersion"), claim.APIVersion, live.GroupVersion.String()},
		{field.NewPath("kind"), claim.Kind, kind},
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
	claim.APIVersion, claim.Kind = live.GroupVersion.String(), kind
	object.Namespace, object.Name = namespace, name
	return nil
}
