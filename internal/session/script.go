package session

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/shellquote"
)

// preamble copies the shell's own stdout and stderr to the descriptors that the
// frame of a command uses.
const preamble = "exec 8>&1 9>&2\n"

// nonce is a random marker that no output contains. The shell puts it together from
// two halves, so that neither a trace nor an echo of the script contains it.
type nonce struct{ left, right string }

func newNonce() nonce {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // it never fails
	text := hex.EncodeToString(random)
	return nonce{text[:16], text[16:]}
}

// begins is the marker before the output of the command.
func (n nonce) begins() []byte { return []byte(n.left + n.right + "+\n") }

// ends is the marker after the output. On stdout the exit code and a newline follow,
// on stderr the newline alone.
func (n nonce) ends() []byte { return []byte(n.left + n.right + "-") }

// script frames a command line for the shell. Its parts:
//
//   - Everything is in one compound command, so that the shell reads everything
//     before it does anything.
//   - The backslashes keep aliases away. A function hides a builtin of the same name,
//     except for the special builtins, such as unset. So the script first unsets a
//     function called command, and reaches the other builtins through command.
//   - command eval survives what would otherwise end some shells: syntax errors,
//     and errors of special builtins. Without the newlines after the command and
//     before the script, bash fails on what follows a quote that is not closed.
//   - The redirections belong to the group, so the shell undoes what exec did to
//     these descriptors, and processes in the background do not hold 8 and 9.
//   - The command is in no condition, where set -e would not work, and in no loop,
//     which break would leave.
//   - The trace of set -x about the markers is dropped.
func script(n nonce, command string) string {
	halves := strings.NewReplacer("LEFT", n.left, "RIGHT", n.right)
	return halves.Replace(`
{ { \unset -f command; \command printf '%s%s+\n' LEFT RIGHT >&8; \command printf '%s%s+\n' LEFT RIGHT >&9; } >/dev/null 2>&1
{ \command eval `) + shellquote.Words([]string{command + "\n"}) + halves.Replace(`
} </dev/null >&8 2>&9 8>&- 9>&-
{ connpool_status=$?; \unset -f command; \command printf '%s%s-%s\n' LEFT RIGHT "$connpool_status" >&8
\command printf '%s%s-\n' LEFT RIGHT >&9; \unset connpool_status; } >/dev/null 2>&1; }
`)
}

// assignments returns a command line that sets the shell's environment.
func assignments(env map[string]string) string {
	if len(env) == 0 {
		return ":"
	}
	exports := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		exports = append(exports, `\command export `+name+"="+shellquote.Words([]string{env[name]}))
	}
	return strings.Join(exports, " &&\n")
}

// commandLine returns the command line that the shell has to evaluate.
func commandLine(command driver.Command) (string, error) {
	line := command.Shell
	if len(command.Argv) > 0 {
		line = shellquote.Words(command.Argv)
	}
	switch {
	case command.Subsystem != "" || command.TTY != nil || len(command.Env) > 0 || command.Place != (driver.Place{}):
		return "", refused("a session runs commands where it is, without a terminal, a subsystem or an environment of their own")
	case line == "" || command.Shell != "" && len(command.Argv) > 0:
		return "", refused("a session runs either words or a command line")
	case strings.ContainsRune(line, 0):
		return "", refused("a command must not contain a NUL character")
	}
	return line, nil
}

func refused(message string) error {
	return &driver.Error{Reason: driver.ProtocolError, Stage: driver.StagePrepare, Message: message}
}
