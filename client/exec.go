package client

import (
	"cmp"
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
	// Container to run in: required on docker targets, by name or ID; a container of
	// the pod on kubernetes targets, empty for its default or only one. Hosts have
	// none.
	Container string
	// Pod to run in: required on kubernetes targets, empty on others.
	Pod string
	// Namespace of the pod; that of the target when empty. Not the pool's.
	Namespace string
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
	// Timeout after which the command is signaled to end and its outcome is
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
// signaled to end, and its outcome is unknown.
func (p *Pool) Exec(ctx context.Context, command Command) (Result, error) {
	u, err := p.url("exec")
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	return p.client.exec(ctx, u, command)
}

// exec runs a command at a subresource that takes them.
func (c *Client) exec(ctx context.Context, u *url.URL, command Command) (Result, error) {
	exec, err := command.exec()
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	if err := c.create(ctx, u, exec); err != nil {
		err.RequestID = cmp.Or(err.RequestID, command.RequestID)
		return Result{ExitCode: -1, RequestID: err.RequestID}, err
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
			Target: c.Target, Container: c.Container, Pod: c.Pod, Namespace: c.Namespace,
			Command: c.Argv, Shell: c.Shell, Subsystem: c.Subsystem, Env: c.Env, Stdin: stdin,
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

// create sends an object once, and reads into it what became of it.
func (c *Client) create(ctx context.Context, u *url.URL, object any) *Error {
	body, err := encode(object)
	if err != nil {
		return notStarted(err)
	}
	request, err := newRequest(ctx, http.MethodPost, u, body)
	if err != nil {
		return notStarted(err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return body.failed(err)
	}
	defer response.Body.Close()
	if refusal := refusal(response); refusal != nil {
		return refused(refusal)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(object); err != nil {
		return unknown(fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

func (p *Pool) url(subresource string) (*url.URL, error) {
	if err := checkNames(p.namespace, p.name); err != nil {
		return nil, err
	}
	return p.client.resource(p.namespace, "connectionpools", p.name, subresource), nil
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
