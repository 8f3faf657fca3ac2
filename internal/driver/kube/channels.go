package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	"github.com/connpool/connpool/internal/driver"
)

// execution is one command, in the remote command protocol: numbered channels in
// the messages of a WebSocket. The caller's goroutine listens and hands output on,
// which is how a slow reader holds the command back; another speaks.
type execution struct {
	conn    *conn
	socket  *webSocket
	tty     *driver.TTY
	streams driver.Streams
	// broken gets what the caller's side broke first: a stream.
	broken chan string
}

func newExecution(c *conn, socket *webSocket, tty *driver.TTY, streams driver.Streams) *execution {
	for _, writer := range []*io.Writer{&streams.Stdout, &streams.Stderr} {
		if *writer == nil {
			*writer = io.Discard
		}
	}
	return &execution{conn: c, socket: socket, tty: tty, streams: streams, broken: make(chan string, 1)}
}

// run moves data until the status has come, and returns it. An error means that
// the outcome is unknown.
func (e *execution) run(ctx context.Context) (*metav1.Status, *driver.Error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, e.socket.hangUp)
	var resizing sync.WaitGroup
	if e.tty != nil {
		resizing.Go(func() { e.resize(ctx) })
	}
	go e.speak(ctx) // not waited for: nobody can end a Read of somebody else's reader
	status, err := e.receive()
	if err != nil {
		failure := e.explain(ctx, err)
		cancel()
		resizing.Wait()
		return nil, failure
	}
	if stop() {
		go e.socket.goodbye() // nobody waits for it
	}
	cancel()
	resizing.Wait()
	return status, nil
}

// explain says why no status came.
func (e *execution) explain(ctx context.Context, err error) *driver.Error {
	unknown := func(reason driver.Reason, message string) *driver.Error {
		return &driver.Error{Reason: reason, Stage: driver.StageRun, Started: true, Message: driver.Sanitize(message), Err: err}
	}
	const goesOn = "; the command lost its streams and may go on"
	select {
	case what := <-e.broken:
		return unknown(driver.Unreachable, what+goesOn)
	default:
	}
	switch address := e.conn.client.config.address; {
	case ctx.Err() != nil:
		return unknown(driver.Timeout, "the caller did not wait any longer"+goesOn)
	case e.socket.lost.Load():
		return unknown(driver.Timeout, address+" gave no sign of life; check the API server and the network")
	case errors.Is(err, errProtocol):
		return unknown(driver.ProtocolError, address+" broke the protocol of commands: "+err.Error())
	default:
		return unknown(driver.Unreachable, "the connection to "+address+" was lost"+goesOn)
	}
}

// breakOff ends the command because one of the caller's streams has failed.
func (e *execution) breakOff(what string) {
	select {
	case e.broken <- what:
	default: // something else broke before
	}
	e.socket.hangUp()
}

var errProtocol = errors.New("unreadable")

// receive hands output on until the status comes.
func (e *execution) receive() (*metav1.Status, error) {
	defer e.socket.deafen()
	var message bytes.Buffer
	for {
		message.Reset()
		e.socket.listen()
		_, reader, err := e.socket.NextReader()
		if err != nil {
			return nil, err
		}
		if _, err := message.ReadFrom(reader); err != nil {
			return nil, err
		}
		e.socket.deafen()
		status, err := e.dispatch(message.Bytes())
		if status != nil || err != nil {
			return status, err
		}
	}
}

// dispatch handles one message. Empty ones are legal and mean nothing, and
// channels that we do not know are not for us.
func (e *execution) dispatch(message []byte) (*metav1.Status, error) {
	if len(message) < 2 {
		return nil, nil //nolint:nilnil // there is no status yet
	}
	data := message[1:]
	var err error
	switch message[0] {
	case remotecommand.StreamStdOut:
		_, err = e.streams.Stdout.Write(data)
	case remotecommand.StreamStdErr:
		_, err = e.streams.Stderr.Write(data)
	case remotecommand.StreamErr:
		status := &metav1.Status{}
		if err := json.Unmarshal(data, status); err != nil {
			return nil, fmt.Errorf("%w status: %w", errProtocol, err)
		}
		return status, nil
	}
	if err != nil {
		e.breakOff("the reader of the command's output went away")
	}
	return nil, err
}

// complain tells the caller what the container runtime said, as a shell would.
func (e *execution) complain(said string) {
	writer := e.streams.Stderr
	if e.tty != nil {
		writer = e.streams.Stdout
	}
	_, _ = fmt.Fprintln(writer, driver.Sanitize(notStartedByRuntime.ReplaceAllString(said, "")))
}

var frames = sync.Pool{New: func() any { return new([1 + frameBytes]byte) }}

// speak sends input, and its end. A connection that is gone shows in receive.
func (e *execution) speak(ctx context.Context) {
	if e.streams.Stdin == nil {
		e.endInput()
		return
	}
	frame, _ := frames.Get().(*[1 + frameBytes]byte)
	defer frames.Put(frame)
	frame[0] = remotecommand.StreamStdIn
	for {
		n, err := e.streams.Stdin.Read(frame[1:])
		if n > 0 && e.socket.send(frame[:1+n]) != nil || ctx.Err() != nil {
			return
		}
		switch {
		case err == io.EOF: // as io.Copy: only this is the end
			e.endInput()
			return
		case err != nil:
			// Half an input must not look like a whole one: no end is sent.
			e.breakOff("the command's input broke off")
			return
		}
	}
}

// endInput tells the command that there is no more. A terminal has no end of
// input: container runtimes take it for the end of the output too.
func (e *execution) endInput() {
	if e.tty == nil {
		_ = e.socket.send([]byte{remotecommand.StreamClose, remotecommand.StreamStdIn})
	}
}

// resize sends the terminal's sizes, the first one at once.
func (e *execution) resize(ctx context.Context) {
	for size, more := e.tty.Size, true; more; {
		if size != (driver.WindowSize{}) {
			message := fmt.Appendf([]byte{remotecommand.StreamResize}, `{"Width":%d,"Height":%d}`, size.Columns, size.Rows)
			if e.socket.send(message) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case size, more = <-e.tty.Resize:
		}
	}
}
