package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
)

const (
	// patience is how long a command may take to end after a signal.
	patience = 5 * time.Second
	// noteAfter is how long it may take before a note says that it is waited for.
	noteAfter = time.Second
	// farewell is how long the end of a stream that was left is waited for.
	farewell = 250 * time.Millisecond
)

// Streamer runs a command with streams: a *client.Pool or *client.Session.
type Streamer interface {
	Stream(ctx context.Context, command client.Command, streams client.Streams) (client.Result, error)
}

// Stream runs a command to its end. A signal that ends ctx is sent on to the command,
// where the target allows that. Then the command has 5 seconds, or until a second
// signal, to end, with its output and its exit code. After that, the operator is told
// to end it, the error is an unknown outcome and says what the target does about that.
// When Stream has given up, the streams may still be used.
//
// Notes are what a user should know meanwhile; nil for none.
func Stream(ctx context.Context, to Streamer, command client.Command, streams client.Streams, notes io.Writer) (client.Result, error) {
	if notes == nil {
		notes = io.Discard
	}
	running, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	s := &stream{notes: notes, second: exit.SecondSignal(ctx), leave: leave, opened: make(chan client.Result, 1), done: make(chan ended, 1)}
	signals := make(chan string, 1)
	streams.Signals, streams.Opened = signals, s.open
	go func() {
		result, err := to.Stream(running, command, streams)
		s.done <- ended{result, err}
	}()
	select {
	case end := <-s.done:
		return end.result, end.err
	case <-ctx.Done():
		return s.interrupted(exit.SignalOf(ctx), signals)
	}
}

// ended is what a Streamer returns.
type ended struct {
	result client.Result
	err    error
}

// stream is a command that runs.
type stream struct {
	notes  io.Writer
	second <-chan struct{}
	leave  context.CancelFunc
	// opened gets what is known of the command when it has its connection, and done how it
	// has ended.
	opened chan client.Result
	done   chan ended
}

func (s *stream) open(result client.Result) {
	if result.Routing != "" {
		exit.PrintNote(s.notes, "running on "+display.OneLine(result.Target)+", chosen by the pool")
	}
	NoteContainer(s.notes, result.Target, result.Container)
	s.opened <- result
}

// interrupted sends a signal on, and waits for the end of the command.
func (s *stream) interrupted(signal *exit.SignalError, signals chan<- string) (client.Result, error) {
	var result client.Result
	select {
	case result = <-s.opened:
	default:
		s.leave()
		select {
		case end := <-s.done:
			if errors.Is(end.err, client.ErrNotStarted) {
				return end.result, end.err
			}
			result = end.result
		case <-s.second: // an output that is not read may hold it back
		}
		return gaveUp(result, unsignaled(""))
	}
	if result.Signals != livev1alpha1.SignalsByServer && result.Signals != livev1alpha1.SignalsByHelper {
		return s.left(result, unsignaled(result.Signals))
	}
	signals <- signal.Name
	late, tooLate := time.NewTimer(noteAfter), time.NewTimer(patience)
	defer late.Stop()
	defer tooLate.Stop()
	for {
		select {
		case end := <-s.done:
			return end.result, end.err
		case <-late.C:
			exit.PrintNote(s.notes, fmt.Sprintf(
				"SIG%s was sent to the command, which has up to %s to end; Ctrl-C leaves at once", signal.Name, patience))
		case <-tooLate.C:
			return s.left(result, unended(signal, result.Signals, "within "+patience.String()))
		case <-s.second:
			return s.left(result, unended(signal, result.Signals, "before you left"))
		}
	}
}

// left ends the stream, and returns what is known of the command then.
func (s *stream) left(result client.Result, why string) (client.Result, error) {
	s.leave()
	select {
	case <-s.done: // so that what the command has written last is not cut in the middle
	case <-time.After(farewell):
	}
	return gaveUp(result, why)
}

func gaveUp(result client.Result, why string) (client.Result, error) {
	why += "; how it ends is unknown"
	return result, &leftError{&client.Error{Outcome: livev1alpha1.OutcomeUnknown, Message: why, RequestID: result.RequestID}}
}

// leftError is a command that was left while it ran. Unlike a client.Error it does not
// doubt that the command was started.
type leftError struct{ cause *client.Error }

// Error implements error.
func (e *leftError) Error() string {
	if e.cause.RequestID == "" {
		return e.cause.Message
	}
	return e.cause.Message + " (request " + e.cause.RequestID + ")"
}

// Unwrap returns the *client.Error.
func (e *leftError) Unwrap() error { return e.cause }

// unsignaled says what becomes of a command that cannot be signaled.
func unsignaled(by livev1alpha1.SignalsBy) string {
	if by == livev1alpha1.SignalsByNone {
		return "Kubernetes has no way to signal a command, so it may go on in the pod, without its input and output"
	}
	return "the operator was told to end the command, which may have done part of its work"
}

// unended says what becomes of a command that has not ended after a signal.
func unended(signal *exit.SignalError, by livev1alpha1.SignalsBy, when string) string {
	text := fmt.Sprintf("SIG%s was sent, but the command did not end %s; the operator was told to terminate it, then to kill it",
		signal.Name, when)
	if by == livev1alpha1.SignalsByHelper {
		return text + ", which needs a shell in the container"
	}
	return text + "; SSH servers may ignore that: OpenSSH does before 7.9, and for root and forced commands"
}
