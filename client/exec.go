package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Pool is one ConnectionPool. It is safe for concurrent use.
type Pool struct {
	client    *Client
	namespace string
	name      string
}

// Command is what to run. Exactly one of Argv, Shell and Subsystem is set, or
// none of them, with a terminal, for a login shell.
type Command struct {
	// Target of the pool to run on. May be empty if the pool has one target by
	// declaration, or routes to any.
	Target string
	// Argv is a program and its arguments, which arrive as given.
	Argv []string
	// Shell is a command line that the remote user's shell interprets.
	Shell string
	// Subsystem names a service of the remote server, such as "sftp".
	Subsystem string
	// Env is offered to the server, which may ignore it.
	Env map[string]string
	// Stdin is read to its end; nil is an empty input. Exec takes at most 1 MiB.
	Stdin io.Reader
	// Timeout after which the command is signalled to end and its outcome is
	// unknown. It begins with the command, not with the wait for a connection; Exec
	// rounds it up to seconds. 0 is no timeout but that of the context.
	Timeout time.Duration
	// RequestID makes repeating an Exec safe: for at least 10 minutes, the same
	// command with the same ID is not run again but answered with the first result.
	// At most 128 characters; empty, every Exec runs. Not for Stream.
	RequestID string
}

// Result is what is known of a command, however it ended.
type Result struct {
	// ExitCode of a command that has ended; 128 plus the signal's number if one
	// ended it, -1 if none is known.
	ExitCode int
	// Signal that ended the command, without SIG.
	Signal string
	// Stdout and Stderr of an Exec, at most 1 MiB each.
	Stdout, Stderr []byte
	// Truncated reports that stdout or stderr was longer.
	Truncated bool
	// Target on which it ran.
	Target string
	// Connection over which it ran, by its name in the live API.
	Connection string
	// Acquired is how the connection was got: warm, queued or dialed.
	Acquired live.Acquired
	// Wait is how long that took, and Duration how long the command took after it.
	Wait, Duration time.Duration
	// RequestID under which the operator's audit lines tell of it.
	RequestID string
}

// Exec runs a command and returns its whole result. The error is nil if the
// exit code is 0, an *ExitError if it is another, and otherwise an *Error; the
// result holds whatever is known in each case. When ctx ends, the command is
// signalled to end, and its outcome is unknown.
func (p *Pool) Exec(ctx context.Context, command Command) (Result, error) {
	exec, err := command.exec()
	if err == nil {
		err = checkNames(p.namespace, p.name)
	}
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	if err := p.post(ctx, exec); err != nil {
		err.RequestID = command.RequestID

		return Result{ExitCode: -1, RequestID: command.RequestID}, err
	}

	return execResult(&exec.Status)
}

// exec is the command in the words of the API.
func (c *Command) exec() (*live.Exec, error) {
	stdin, err := readStdin(c.Stdin)
	if err != nil {
		return nil, err
	}

	return &live.Exec{
		TypeMeta: typeMeta("Exec"),
		Spec: live.ExecSpec{
			Target: c.Target, Command: c.Argv, Shell: c.Shell, Subsystem: c.Subsystem, Env: c.Env, Stdin: stdin,
			TimeoutSeconds: int32(math.Ceil(c.Timeout.Seconds())), RequestID: c.RequestID,
		},
	}, nil
}

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

// post sends a command once and reads its result into exec.
func (p *Pool) post(ctx context.Context, exec *live.Exec) *Error {
	body, err := encode(exec)
	if err != nil {
		return notStarted(err)
	}
	request, err := newRequest(ctx, http.MethodPost, p.url("exec"), body)
	if err != nil {
		return notStarted(err)
	}
	response, err := p.client.http.Do(request)
	if err != nil {
		return body.failed(err)
	}
	defer response.Body.Close()
	if refusal := refusal(response); refusal != nil {
		return refused(refusal)
	}
	exec.Status = live.ExecStatus{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(exec); err != nil {
		return unknown(fmt.Errorf("read the result: %w", err))
	}

	return nil
}

func (p *Pool) url(subresource string) *url.URL {
	return p.client.resource(p.namespace, "connectionpools", p.name, subresource)
}

// execResult turns the API's words into Go's.
func execResult(status *live.ExecStatus) (Result, error) {
	result := Result{
		ExitCode: -1, Signal: status.Signal, Truncated: status.Truncated,
		Stdout: text(status.Stdout, status.StdoutBytes), Stderr: text(status.Stderr, status.StderrBytes),
		Target: status.Target, Connection: status.Connection, Acquired: status.Acquired,
		Wait:      microseconds(status.AcquireMicroseconds),
		Duration:  microseconds(status.DurationMicroseconds),
		RequestID: status.RequestID,
	}
	if status.ExitCode != nil {
		result.ExitCode = int(*status.ExitCode)
	}

	return result, result.err(status.Outcome, status.Reason, status.Message)
}

// text is output that came as text if it could, and as bytes if it had to.
func text(text string, data []byte) []byte {
	if data != nil {
		return data
	}

	return []byte(text)
}

// err says how the command ended. A server that forgets the outcome, or that a
// command ended and not how, leaves it unknown.
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
