package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Pool is one ConnectionPool. It is safe for concurrent use.
type Pool struct {
	client    *Client
	namespace string
	name      string
}

// Command is what to run. Exactly one of Argv, Shell and Subsystem is set. A command
// with a terminal may leave all three empty, for a login shell.
type Command struct {
	// Target of the pool to run on. It may be empty if the pool is declared with one
	// target, or routes to any of them.
	Target string
	// Container to run in. On docker targets it is required, by name or ID. On
	// kubernetes targets it is a container of the pod; empty is the pod's default or
	// only one. On ssh targets it is empty.
	Container string
	// Pod to run in: required on kubernetes targets, empty on others.
	Pod string
	// Namespace of Pod; the target's default when empty. It is not that of the pool.
	Namespace string
	// Argv is a program and its arguments, which arrive unchanged.
	Argv []string
	// Shell is a command line that the remote user's shell interprets.
	Shell string
	// Subsystem names a service of the remote server, such as "sftp".
	Subsystem string
	// Env is set for the command. If the server refuses a variable, as sshd does that
	// does not name it in AcceptEnv, the command is not started.
	Env map[string]string
	// Stdin is read to its end; nil is an empty input. Exec takes at most 1 MiB.
	Stdin io.Reader
	// Timeout after which the command is ended as far as its target allows, and its
	// outcome is unknown.
	// It does not include the wait for a connection. Exec rounds it up to seconds. 0
	// means no timeout but that of the context.
	Timeout time.Duration
	// RequestID makes it safe to repeat an Exec: for at least 10 minutes, the same
	// command with the same ID does not run again, but returns the first result. At
	// most 128 characters. With an empty ID every Exec runs. Stream takes none.
	RequestID string
	// Spread prefers the connection with the fewest uses, for a stream that could fill one
	// by itself. Exec ignores it.
	Spread bool
}

// Result is what is known of a command, also of one that failed.
type Result struct {
	// ExitCode of a command that has ended, or 128 plus the number of the signal that
	// ended it; -1 if neither is known.
	ExitCode int
	// Signal that ended the command, without SIG; empty if none did.
	Signal string
	// Stdout and Stderr of an Exec, at most 1 MiB each.
	Stdout, Stderr []byte
	// Truncated reports whether stdout or stderr was longer.
	Truncated bool
	// Target on which it ran.
	Target string
	// Routing by which the pool chose Target, such as LeastLoaded; empty if the command or
	// the pool names the target. Only a Stream has it.
	Routing string
	// Container in which it ran, if the operator chose it because the command names none.
	Container string
	// Connection over which it ran; its name in the live API.
	Connection string
	// Acquired says how the command got the connection: warm, queued or dialed.
	Acquired live.Acquired
	// Wait is how long that took. Duration is how long the command took after that.
	Wait, Duration time.Duration
	// RequestID is the ID in the operator's audit lines.
	RequestID string
	// Signals is what delivers the Signals of a Stream to the command: Server, Helper or
	// None. It is empty in a session, and if the operator does not know signals: none is delivered.
	Signals live.SignalsBy
}

// Exec runs a command and returns its whole result. The error is nil if the exit
// code is 0, an *ExitError if it is another one, and an *Error if the command is
// not known to have ended. The result has what is known in each case. When ctx
// ends, the command is ended as far as its target allows, and its outcome is unknown.
func (p *Pool) Exec(ctx context.Context, command Command) (Result, error) {
	u, err := p.url("exec")
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	return p.client.exec(ctx, u, command)
}

// exec runs a command at the exec subresource of a pool or a session.
func (c *Client) exec(ctx context.Context, u *url.URL, command Command) (Result, error) {
	exec, err := command.exec()
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	var answer live.Exec
	if err := c.create(ctx, u, exec, &answer); err != nil {
		err.RequestID = cmp.Or(err.RequestID, command.RequestID)
		return Result{ExitCode: -1, RequestID: err.RequestID}, err
	}
	return execResult(&answer.Status)
}

// exec returns the command as an object of the API.
func (c *Command) exec() (*live.Exec, error) {
	if !c.IsText() {
		return nil, ErrNoText
	}
	stdin, err := readStdin(c.Stdin)
	if err != nil {
		return nil, err
	}
	return &live.Exec{
		TypeMeta: typeMeta("Exec"),
		Spec: live.ExecSpec{
			Target: c.Target, Container: c.Container, Pod: c.Pod, Namespace: c.Namespace,
			Command: c.Argv, Shell: c.Shell, Subsystem: c.Subsystem, Env: c.Env, Stdin: stdin,
			TimeoutSeconds: wholeSeconds(c.Timeout), RequestID: c.RequestID,
		},
	}, nil
}

// ErrNoText means that a command is not UTF-8, as JSON must be: other characters would run in
// the place of those bytes. Exec, Run and NewSession do not send it. Stream takes any bytes.
var ErrNoText = errors.New("the command has bytes that are not UTF-8, which JSON cannot carry")

// IsText reports whether all of a command is UTF-8, as Exec and Run need it.
func (c *Command) IsText() bool {
	if !utf8.ValidString(c.Shell) || slices.ContainsFunc(c.Argv, isNoText) {
		return false
	}
	for name, value := range c.Env {
		if isNoText(name) || isNoText(value) {
			return false
		}
	}
	return true
}

func isNoText(word string) bool { return !utf8.ValidString(word) }

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: kind}
}

func readStdin(stdin io.Reader) ([]byte, error) {
	if stdin == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(stdin, live.MaxExecStdinBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	if len(data) > live.MaxExecStdinBytes {
		return nil, fmt.Errorf("stdin is longer than %d bytes; Stream has no bound", live.MaxExecStdinBytes)
	}
	return data, nil
}

func (p *Pool) url(subresource string) (*url.URL, error) {
	if err := checkNames(p.namespace, p.name); err != nil {
		return nil, err
	}
	return p.client.resource(p.namespace, "connectionpools", p.name, subresource), nil
}

// execResult returns the status of an Exec as a Result and an error.
func execResult(status *live.ExecStatus) (Result, error) {
	result := Result{
		ExitCode: -1, Signal: status.Signal, Truncated: status.Truncated,
		Stdout: text(status.Stdout, status.StdoutBytes), Stderr: text(status.Stderr, status.StderrBytes),
		Target: status.Target, Container: status.Container, Connection: status.Connection, Acquired: status.Acquired,
		Wait:      microseconds(status.AcquireMicroseconds),
		Duration:  microseconds(status.DurationMicroseconds),
		RequestID: status.RequestID,
	}
	if status.ExitCode != nil {
		result.ExitCode = int(*status.ExitCode)
	}
	return result, result.err(status.Outcome, status.Reason, status.Message)
}

// text returns output. The API sends bytes where it is not text.
func text(text string, data []byte) []byte {
	if data != nil {
		return data
	}
	return []byte(text)
}

// err returns the error of a command with this result. If the server names no
// outcome, or no exit code of a command that completed, the outcome is unknown.
func (r *Result) err(outcome live.Outcome, reason, message string) error {
	completed := outcome == live.OutcomeCompleted
	switch {
	case completed && r.ExitCode == 0:
		return nil
	case completed && r.ExitCode > 0:
		return &ExitError{Code: r.ExitCode, Signal: r.Signal}
	case outcome != live.OutcomeNotStarted:
		outcome = live.OutcomeUnknown
	}
	return &Error{Outcome: outcome, Reason: reason, Message: message, RequestID: r.RequestID}
}
