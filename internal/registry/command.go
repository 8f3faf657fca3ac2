package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

const (
	maxRequestIDLength = 128
	maxTermLength      = 64
	maxSubsystemLength = 128
)

// environmentName is what POSIX calls a name.
var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validateExec returns what is wrong with a command in the JSON form.
func validateExec(spec *live.ExecSpec) field.ErrorList {
	root := field.NewPath("spec")
	problems := validateKind(root, spec.Command, spec.Shell, spec.Subsystem)
	problems = append(problems, validateWords(root, spec.Command, spec.Shell, spec.Subsystem)...)
	problems = append(problems, validateEnvironment(root.Child("env"), spec.Env)...)
	if len(spec.Stdin) > live.MaxExecStdinBytes {
		problems = append(problems, field.TooLong(root.Child("stdin"), "", live.MaxExecStdinBytes))
	}
	if spec.TimeoutSeconds < 0 {
		problems = append(problems, field.Invalid(root.Child("timeoutSeconds"), spec.TimeoutSeconds, "must not be negative"))
	}
	return append(problems, validateRequestID(root.Child("requestID"), spec.RequestID)...)
}

// validateExecOptions returns what is wrong with the query of a streamed command,
// and its environment.
func validateExecOptions(options *live.ExecOptions) (map[string]string, field.ErrorList) {
	var problems field.ErrorList
	login := options.TTY && len(options.Command) == 0 && options.Shell == "" && options.Subsystem == ""
	if !login {
		problems = validateKind(nil, options.Command, options.Shell, options.Subsystem)
	}
	problems = append(problems, validateWords(nil, options.Command, options.Shell, options.Subsystem)...)
	if !options.Stdin && !options.Stdout && !options.Stderr {
		problems = append(problems, field.Required(field.NewPath("stdin"), "ask for at least one of stdin, stdout and stderr"))
	}
	if options.TTY && options.Stderr {
		problems = append(problems, field.Invalid(field.NewPath("stderr"), true,
			"a terminal has no separate stderr; leave it out with tty"))
	}
	if term := field.NewPath("term"); len(options.Term) > maxTermLength {
		problems = append(problems, field.TooLong(term, "", maxTermLength))
	} else if !isPrintable(options.Term) {
		problems = append(problems, field.Invalid(term, plain(options.Term), "must not hold control characters"))
	}
	env, malformed := readEnvironment(field.NewPath("env"), options.Env)
	problems = append(problems, malformed...)
	return env, append(problems, validateEnvironment(field.NewPath("env"), env)...)
}

// child is a field below root, or at the top when there is none.
func child(root *field.Path, name string) *field.Path {
	if root == nil {
		return field.NewPath(name)
	}
	return root.Child(name)
}

// validateKind: exactly one of the three.
func validateKind(root *field.Path, command []string, shell, subsystem string) field.ErrorList {
	set := 0
	for _, isSet := range []bool{len(command) > 0, shell != "", subsystem != ""} {
		if isSet {
			set++
		}
	}
	if set == 1 {
		return nil
	}
	const rule = "set exactly one of command, shell and subsystem"
	at := child(root, "command")
	if set == 0 {
		return field.ErrorList{field.Required(at, rule)}
	}
	return field.ErrorList{field.Forbidden(at, rule)}
}

func validateWords(root *field.Path, command []string, shell, subsystem string) (problems field.ErrorList) {
	at := child(root, "command")
	if len(command) > live.MaxCommandArguments { // each of which could be wrong
		return field.ErrorList{field.TooMany(at, len(command), live.MaxCommandArguments)}
	}
	size := 0
	for i, word := range command {
		size += len(word)
		problems = append(problems, validateNUL(at.Index(i), word)...)
	}
	switch {
	case size > live.MaxCommandBytes:
		problems = append(problems, field.TooLong(at, "", live.MaxCommandBytes))
	case len(command) > 0 && command[0] == "":
		problems = append(problems, field.Invalid(at.Index(0), "", "the name of the program must not be empty"))
	}
	if len(shell) > live.MaxCommandBytes {
		problems = append(problems, field.TooLong(child(root, "shell"), "", live.MaxCommandBytes))
	}
	problems = append(problems, validateNUL(child(root, "shell"), shell)...)
	if len(subsystem) > maxSubsystemLength || !isPrintable(subsystem) {
		problems = append(problems, field.Invalid(child(root, "subsystem"), plain(subsystem), fmt.Sprintf(
			"must be at most %d printable characters, such as sftp", maxSubsystemLength)))
	}
	return problems
}

func validateNUL(at *field.Path, words string) field.ErrorList {
	if !strings.ContainsRune(words, 0) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, plain(words), "must not hold a NUL character")}
}

// readEnvironment splits NAME=value pairs.
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
			problems = append(problems, field.Duplicate(at.Index(i), plain(name)))
		case env == nil:
			env = map[string]string{name: value}
		default:
			env[name] = value
		}
	}
	return env, problems
}

// validateEnvironment never repeats a value, which may be a secret.
func validateEnvironment(at *field.Path, env map[string]string) (problems field.ErrorList) {
	if len(env) > live.MaxCommandArguments {
		return field.ErrorList{field.TooMany(at, len(env), live.MaxCommandArguments)}
	}
	size := 0
	for _, name := range sortedKeys(env) {
		size += len(name) + len(env[name])
		if !environmentName.MatchString(name) {
			problems = append(problems, field.Invalid(at, plain(name),
				"a name has letters, digits and _ only, and does not begin with a digit"))
		}
		if strings.ContainsRune(env[name], 0) {
			problems = append(problems, field.Invalid(at.Key(plain(name)), "", "must not hold a NUL character"))
		}
	}
	if size > live.MaxCommandBytes {
		problems = append(problems, field.TooLong(at, "", live.MaxCommandBytes))
	}
	return problems
}

func sortedKeys(env map[string]string) []string {
	keys := make([]string, 0, len(env))
	for key := range env {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func validateRequestID(at *field.Path, id string) field.ErrorList {
	switch {
	case len(id) > maxRequestIDLength:
		return field.ErrorList{field.TooLong(at, "", maxRequestIDLength)}
	case !isPrintable(id):
		return field.ErrorList{field.Invalid(at, plain(id), "must not hold control characters")}
	}
	return nil
}

func isPrintable(words string) bool {
	return !strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) })
}

// streamed is the command of a query.
func streamed(options *live.ExecOptions, env map[string]string, resize <-chan driver.WindowSize) driver.Command {
	command := driver.Command{
		Place: placeOf(options), Argv: options.Command, Shell: options.Shell, Subsystem: options.Subsystem, Env: env,
	}
	if options.TTY {
		command.TTY = &driver.TTY{Term: options.Term, Size: firstSize(resize), Resize: resize}
	}
	return command
}

// firstSize is what the client has said by now, or what terminals have had since
// the VT100; most clients say theirs a moment later.
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

// words is a command for an audit line.
func words(command driver.Command) []string {
	switch {
	case command.Shell != "":
		return []string{plain(command.Shell)}
	case command.Subsystem != "":
		return []string{plain(command.Subsystem)}
	}
	safe := make([]string, len(command.Argv))
	for i, word := range command.Argv {
		safe[i] = plain(word)
	}
	return safe
}
