package session

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/connpool/connpool/internal/driver"
)

// preamble keeps the shell's own streams where the framing finds them.
const preamble = "exec 8>&1 9>&2\n"

// nonce makes a marker that no output has. The shell puts it together from two
// halves, so that neither a trace nor an echo of the script contains it.
type nonce struct{ left, right string }

func newNonce() nonce {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // which never fails
	text := hex.EncodeToString(random)
	return nonce{text[:16], text[16:]}
}

// begins stands where the output of the command begins.
func (n nonce) begins() []byte { return []byte(n.left + n.right + "+\n") }

// ends stands where it ends; the exit code and a newline follow, or the newline
// alone.
func (n nonce) ends() []byte { return []byte(n.left + n.right + "-") }

// script frames a command line for the shell. Its parts:
//
//   - One compound command around all: the shell has read everything before it
//     does anything.
//   - The backslashes keep aliases away. Functions hide builtins but for the special
//     ones, such as unset; so command goes first, and reaches the others.
//   - command eval survives what would otherwise end some shells: syntax errors,
//     and errors of special builtins. Without the newlines behind the command and
//     before the script, bash stumbles over what follows a quote that nobody closed.
//   - The redirections belong to the group, so the shell undoes whatever exec did
//     to these descriptors, and processes in the background do not hold 8 and 9.
//   - Nothing stands in a condition, where set -e would not work; and there is no
//     loop, for break to leave.
//   - What set -x says about the markers goes nowhere.
func script(n nonce, command string) string {
	words := strings.NewReplacer("LEFT", n.left, "RIGHT", n.right)
	return words.Replace(`
{ { \unset -f command; \command printf '%s%s+\n' LEFT RIGHT >&8; \command printf '%s%s+\n' LEFT RIGHT >&9; } >/dev/null 2>&1
{ \command eval `) + driver.Quote([]string{command + "\n"}) + words.Replace(`
} </dev/null >&8 2>&9 8>&- 9>&-
{ connpool_status=$?; \unset -f command; \command printf '%s%s-%s\n' LEFT RIGHT "$connpool_status" >&8
\command printf '%s%s-\n' LEFT RIGHT >&9; \unset connpool_status; } >/dev/null 2>&1; }
`)
}

// assignments is a command line that gives the shell its environment.
func assignments(env map[string]string) string {
	if len(env) == 0 {
		return ":"
	}
	exports := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		exports = append(exports, `\command export `+name+"="+driver.Quote([]string{env[name]}))
	}
	return strings.Join(exports, " &&\n")
}

// commandLine is what the shell has to evaluate.
func commandLine(command driver.Command) (string, error) {
	line := command.Shell
	if len(command.Argv) > 0 {
		line = driver.Quote(command.Argv)
	}
	switch {
	case command.Subsystem != "" || command.TTY != nil || len(command.Env) > 0 || command.Place != (driver.Place{}):
		return "", refused("a session runs commands where it is, without a terminal, a subsystem or an environment of their own")
	case line == "" || command.Shell != "" && len(command.Argv) > 0:
		return "", refused("a session runs either words or a command line")
	case strings.ContainsRune(line, 0):
		return "", refused("a command must not hold a NUL character")
	}
	return line, nil
}

func refused(message string) error {
	return &driver.Error{Reason: driver.ProtocolError, Stage: driver.StagePrepare, Message: message}
}
