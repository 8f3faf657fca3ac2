package kubestream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
)

// ExecProtocol is the subprotocol that Run speaks.
const ExecProtocol = remotecommand.StreamProtocolV5Name

// SignalChannel is the channel of the live API on which a client sends signals: each
// message is the name of one, without SIG. Kubernetes has no such channel, and its
// servers ignore it, as operators do that do not know it.
const SignalChannel = 100

// Streams are those of a command. A nil writer discards.
type Streams struct {
	// Stdin is read to its end; if it is nil, nothing is sent, not even an end.
	Stdin io.Reader
	// StdinStaysOpen means that the end of Stdin is not sent.
	StdinStaysOpen bool
	Stdout, Stderr io.Writer
	// Resize sends the sizes of a terminal until ctx ends or send fails; see Sizes.
	Resize func(ctx context.Context, send func(Size) error)
	// Signals are names to send on the SignalChannel, until they are closed; may be nil.
	Signals <-chan string
}

// Size is a terminal's size in character cells. A zero Size is not sent.
type Size struct{ Columns, Rows uint16 }

// Sizes returns a Resize that sends the first size at once and then the later
// ones, until they are closed. later may be nil.
func Sizes[S ~struct{ Columns, Rows uint16 }](first S, later <-chan S) func(context.Context, func(Size) error) {
	return func(ctx context.Context, send func(Size) error) {
		for size, more := first, true; more; {
			if send(Size(size)) != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case size, more = <-later:
			}
		}
	}
}

// command is a running command: numbered channels in the messages of a socket.
type command struct {
	socket  *Socket
	streams Streams
}

// Run moves data until the command's status has come, and returns it. It calls
// the writers in the caller's goroutine, so that one that blocks holds the command
// back.
//
// Run ends the socket, but does not wait until the server is told: Socket.Close does.
// When Run returns, it no longer uses the streams, except for a Read of Stdin that has
// not returned. If ctx ends first, the error is its cause.
func Run(ctx context.Context, socket *Socket, streams Streams) (*metav1.Status, error) {
	for _, writer := range []*io.Writer{&streams.Stdout, &streams.Stderr} {
		if *writer == nil {
			*writer = io.Discard
		}
	}
	c := &command{socket: socket, streams: streams}
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, socket.Cut)
	var sending sync.WaitGroup
	if streams.Resize != nil {
		sending.Go(func() { streams.Resize(ctx, c.sendSize) })
	}
	if streams.Signals != nil {
		sending.Go(func() { c.sendSignals(ctx) })
	}
	if streams.Stdin != nil {
		go c.sendInput(ctx, end) // not waited for: a pending Read cannot be ended
	}
	status, err := c.receive(ctx)
	if err == nil && stop() {
		go socket.Close() //nolint:errcheck // it never fails
	}
	end(context.Canceled)
	sending.Wait()
	return status, err
}

// receive passes output on until the status comes.
func (c *command) receive(ctx context.Context) (*metav1.Status, error) {
	var message bytes.Buffer
	for {
		err := c.socket.next(&message)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, fmt.Errorf("the connection to the server was lost: %w", err)
		}
		status, err := c.dispatch(message.Bytes())
		if status != nil || err != nil {
			return status, err
		}
	}
}

// dispatch handles one message. Empty ones are legal and mean nothing. Unknown
// channels are ignored.
func (c *command) dispatch(message []byte) (*metav1.Status, error) {
	if len(message) < 2 {
		return nil, nil //nolint:nilnil // there is no status yet
	}
	data := message[1:]
	var err error
	switch message[0] {
	case remotecommand.StreamStdOut:
		_, err = c.streams.Stdout.Write(data)
	case remotecommand.StreamStdErr:
		_, err = c.streams.Stderr.Write(data)
	case remotecommand.StreamErr:
		if len(data) > maxStatusBytes {
			return nil, fmt.Errorf("%w: longer than 64 KiB", ErrProtocol)
		}
		status := &metav1.Status{}
		if err := json.Unmarshal(data, status); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return status, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return nil, nil //nolint:nilnil // there is no status yet
}

// frames lends the buffers in which input is sent.
var frames = sync.Pool{New: func() any { return new([1 + frameBytes]byte) }}

// sendInput sends Stdin and its end. If the connection is lost, receive returns why.
func (c *command) sendInput(ctx context.Context, end context.CancelCauseFunc) {
	frame, _ := frames.Get().(*[1 + frameBytes]byte)
	defer frames.Put(frame)
	frame[0] = remotecommand.StreamStdIn
	for {
		n, err := c.streams.Stdin.Read(frame[1:])
		if n > 0 && c.socket.send(frame[:1+n]) != nil || ctx.Err() != nil {
			return
		}
		switch {
		case err == io.EOF: // as in io.Copy, an error that wraps io.EOF is not an end
			if !c.streams.StdinStaysOpen {
				_ = c.socket.send([]byte{remotecommand.StreamClose, remotecommand.StreamStdIn})
			}
			return
		case err != nil:
			// Half an input must not look like a whole one, so no end is sent.
			end(fmt.Errorf("%w: %w", ErrInput, err))
			return
		}
	}
}

func (c *command) sendSignals(ctx context.Context) {
	for {
		select {
		case name, more := <-c.streams.Signals:
			if !more || c.socket.send(append([]byte{SignalChannel}, name...)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *command) sendSize(size Size) error {
	if size == (Size{}) {
		return nil
	}
	return c.socket.send(fmt.Appendf([]byte{remotecommand.StreamResize}, `{"Width":%d,"Height":%d}`, size.Columns, size.Rows))
}
