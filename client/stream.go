package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/kubestream"
)

// Streams are the outputs of a Stream, and its terminal. A nil writer discards.
type Streams struct {
	Stdout io.Writer
	Stderr io.Writer
	// Signals are sent to the command as they come, each by its name without SIG, such as
	// INT. What they do depends on the target: see Result.Signals. May be nil.
	Signals <-chan string
	// Opened is called once, when the command is about to run and before any output, with
	// what is known by then: the target, the container, the connection, Signals and the
	// RequestID. May be nil.
	Opened func(Result)
	// Terminal, if not nil, gives the command a terminal. What the command writes to
	// stderr then arrives on Stdout.
	Terminal *Terminal
}

// Terminal describes the terminal of a command.
type Terminal struct {
	// Term is the type; "xterm" when empty.
	Term string
	// Size is the size at the start.
	Size Size
	// Resize delivers later sizes until it is closed; may be nil.
	Resize <-chan Size
}

// Size is a terminal's size in character cells.
type Size struct{ Columns, Rows uint16 }

// The headers in which the answer to an upgrade describes the use of a connection.
const (
	headerConnection = "Connpool-Connection"
	headerTarget     = "Connpool-Target"
	headerContainer  = "Connpool-Container"
	headerAcquired   = "Connpool-Acquired"
	headerRequestID  = "Connpool-Request-Id"
	headerSignals    = "Connpool-Signals"
	headerRouting    = "Connpool-Routing"
)

// errTimeout ends a Stream after its command's Timeout.
var errTimeout = errors.New("the command's timeout passed; the operator was told to end it, and part of its work may be done")

// Stream runs a command and copies its streams while it runs. Its result and
// error are those of Exec, without the output. When ctx ends, the command is
// ended as far as its target allows, and its outcome is unknown.
//
// When Stream returns, it no longer uses the streams, except for a Read of Stdin
// that has not returned. A writer that fails ends the command. One that blocks makes
// the command wait.
func (p *Pool) Stream(ctx context.Context, command Command, streams Streams) (Result, error) {
	u, err := p.url("exec")
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	return p.client.stream(ctx, u, command, streams)
}

// stream runs a command at the exec subresource of a pool or a session.
func (c *Client) stream(ctx context.Context, u *url.URL, command Command, streams Streams) (Result, error) {
	query, err := streamQuery(command, streams)
	if err != nil {
		return Result{ExitCode: -1}, notStarted(err)
	}
	u.RawQuery = query.Encode()
	socket, header, failed := c.upgradeTo(ctx, u, kubestream.ExecProtocol)
	if failed != nil {
		return Result{ExitCode: -1}, failed
	}
	defer socket.Close() //nolint:errcheck // never fails; waits for the goodbye, since the process may exit next
	if command.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, command.Timeout, errTimeout)
		defer cancel()
	}
	result := leaseResult(header)
	if streams.Opened != nil {
		streams.Opened(result)
	}
	status, err := kubestream.Run(ctx, socket, streamsOf(command.Stdin, streams))
	if err != nil {
		failed := unknown(err)
		failed.RequestID = result.RequestID
		return result, failed
	}
	return statusResult(result, status)
}

func streamsOf(stdin io.Reader, streams Streams) kubestream.Streams {
	of := kubestream.Streams{Stdin: stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Signals: streams.Signals}
	if terminal := streams.Terminal; terminal != nil {
		of.Resize = kubestream.Sizes(terminal.Size, terminal.Resize)
	}
	return of
}

// leaseResult returns what is known before the command has ended.
func leaseResult(header http.Header) Result {
	return Result{
		ExitCode: -1, Target: header.Get(headerTarget), Connection: header.Get(headerConnection),
		Acquired: live.Acquired(header.Get(headerAcquired)), RequestID: header.Get(headerRequestID),
		Routing: header.Get(headerRouting), Signals: live.SignalsBy(header.Get(headerSignals)),
		Container: header.Get(headerContainer),
	}
}

// streamQuery puts the command into the query of the exec protocol.
func streamQuery(command Command, streams Streams) (url.Values, error) {
	if command.RequestID != "" {
		return nil, errors.New("a stream cannot be repeated, so it takes no RequestID")
	}
	query := commandQuery(command)
	tty := streams.Terminal != nil
	if command.Stdin == nil && streams.Stdout == nil && streams.Stderr == nil {
		streams.Stdout = io.Discard // the server requires at least one stream
	}
	for name, wanted := range map[string]bool{
		"stdin": command.Stdin != nil, "stdout": streams.Stdout != nil, "stderr": streams.Stderr != nil && !tty, "tty": tty,
		"spread": command.Spread,
	} {
		if wanted {
			query.Set(name, "true")
		}
	}
	if tty && streams.Terminal.Term != "" {
		query.Set("term", streams.Terminal.Term)
	}
	return query, nil
}

func commandQuery(command Command) url.Values {
	query := queryOf(map[string]string{
		"target": command.Target, "container": command.Container, "pod": command.Pod, "namespace": command.Namespace,
		"shell": command.Shell, "subsystem": command.Subsystem,
	})
	query["command"] = command.Argv
	for _, name := range slices.Sorted(maps.Keys(command.Env)) {
		query.Add("env", fmt.Sprintf("%s=%s", name, command.Env[name]))
	}
	return query
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// statusResult adds the Status at the end of a stream to the result.
func statusResult(result Result, status *metav1.Status) (Result, error) {
	causes := causesOf(status)
	result.Signal = causes[live.CauseSignal]
	result.Target = cmp.Or(causes[live.CauseTarget], result.Target)
	result.Connection = cmp.Or(causes[live.CauseConnection], result.Connection)
	result.RequestID = cmp.Or(causes[live.CauseRequestID], result.RequestID)
	result.Acquired = cmp.Or(live.Acquired(causes[live.CauseAcquired]), result.Acquired)
	result.Wait = microseconds(number(causes[live.CauseAcquireMicroseconds], 0))
	result.Duration = microseconds(number(causes[live.CauseDurationMicroseconds], 0))
	outcome := outcomeOf(status, causes)
	if outcome == live.OutcomeCompleted {
		result.ExitCode = exitCode(status, causes)
	}
	return result, result.err(outcome, causes[live.CauseReason], status.Message)
}

func causesOf(status *metav1.Status) map[metav1.CauseType]string {
	causes := map[metav1.CauseType]string{}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			causes[cause.Type] = cause.Message
		}
	}
	return causes
}

// outcomeOf returns the outcome that the operator added to the Status. For another
// server it concludes the outcome from the Status of the exec protocol.
func outcomeOf(status *metav1.Status, causes map[metav1.CauseType]string) live.Outcome {
	if outcome, ok := causes[live.CauseOutcome]; ok {
		return live.Outcome(outcome)
	}
	if status.Status == metav1.StatusSuccess || status.Reason == remotecommand.NonZeroExitCodeReason {
		return live.OutcomeCompleted
	}
	return live.OutcomeUnknown
}

func exitCode(status *metav1.Status, causes map[metav1.CauseType]string) int {
	if status.Status == metav1.StatusSuccess {
		return 0
	}
	return int(number(causes[remotecommand.ExitCodeCauseType], -1))
}

func number(text string, otherwise int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
