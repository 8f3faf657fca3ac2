package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
)

// maxMessageBytes bounds a message of the server; it sends a few dozen KiB.
const maxMessageBytes = 4 << 20

// channels is a command in the remote command protocol: numbered channels in the
// messages of a WebSocket.
//
// One goroutine reads, which is run's own. Messages are written under sending;
// those of the heartbeat need no lock.
type channels struct {
	conn      *websocket.Conn
	heartbeat *heartbeat
	stdin     io.Reader
	streams   Streams
	sending   sync.Mutex
}

func newChannels(conn *websocket.Conn, stdin io.Reader, streams Streams) *channels {
	for _, writer := range []*io.Writer{&streams.Stdout, &streams.Stderr} {
		if *writer == nil {
			*writer = io.Discard
		}
	}

	conn.SetReadLimit(maxMessageBytes)
	return &channels{conn: conn, heartbeat: newHeartbeat(conn), stdin: stdin, streams: streams}
}

// run moves data until the final status has come, and returns it.
func (c *channels) run(ctx context.Context) (*metav1.Status, error) {
	ctx, end := context.WithCancelCause(ctx)
	hangUp := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	var workers sync.WaitGroup
	workers.Go(func() { c.heartbeat.run(ctx.Done()) })
	if c.streams.Terminal != nil {
		workers.Go(func() { c.resize(ctx, c.streams.Terminal) })
	}
	if c.stdin != nil {
		// Not waited for: nobody can end a Read of somebody else's reader.
		go c.send(ctx, end)
	}
	status, err := c.receive()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if hangUp() {
		c.sayGoodbye()
	}
	end(context.Canceled)
	workers.Wait()
	return status, err
}

// sayGoodbye ends a connection properly, if that is possible at once.
func (c *channels) sayGoodbye() {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second))
	_ = c.conn.Close()
}

// receive hands output on until the status comes.
func (c *channels) receive() (*metav1.Status, error) {
	var message bytes.Buffer
	for {
		if err := c.next(&message); err != nil {
			return nil, fmt.Errorf("the connection to the server was lost: %w", err)
		}
		status, err := c.dispatch(message.Bytes())
		if status != nil || err != nil {
			return status, err
		}
	}
}

// next reads a whole message, so that a slow writer of ours does not look like a
// silent server in the middle of it.
func (c *channels) next(message *bytes.Buffer) error {
	message.Reset()
	if err := c.heartbeat.heard(); err != nil {
		return err
	}
	_, reader, err := c.conn.NextReader()
	if err != nil {
		return err
	}
	_, err = message.ReadFrom(reader)
	return err
}

// dispatch handles one message. Empty ones are legal and mean nothing, and
// channels that we do not know are not for us.
func (c *channels) dispatch(message []byte) (*metav1.Status, error) {
	if len(message) < 2 {
		return nil, nil //nolint:nilnil // There is no status yet.
	}
	data := message[1:]
	var err error
	switch message[0] {
	case remotecommand.StreamStdOut:
		_, err = c.streams.Stdout.Write(data)
	case remotecommand.StreamStdErr:
		_, err = c.streams.Stderr.Write(data)
	case remotecommand.StreamErr:
		status := &metav1.Status{}
		if err = json.Unmarshal(data, status); err == nil {
			return status, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("handle the output: %w", err)
	}
	return nil, nil //nolint:nilnil // There is no status yet.
}

// send copies stdin, and its end. A connection that is gone shows in receive.
func (c *channels) send(ctx context.Context, end context.CancelCauseFunc) {
	buffer := make([]byte, 1+frameBytes)
	buffer[0] = remotecommand.StreamStdIn
	for {
		n, err := c.stdin.Read(buffer[1:])
		if n > 0 && c.write(buffer[:1+n]) != nil {
			return
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, io.EOF):
			_ = c.write([]byte{remotecommand.StreamClose, remotecommand.StreamStdIn})
			return
		case err != nil:
			end(fmt.Errorf("read stdin: %w", err))
			return
		}
	}
}

func (c *channels) write(message []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.conn.WriteMessage(websocket.BinaryMessage, message)
}

// resize sends the terminal's sizes, the first one at once.
func (c *channels) resize(ctx context.Context, terminal *Terminal) {
	size, more := terminal.Size, true
	for more {
		if c.writeSize(size) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case size, more = <-terminal.Resize:
		}
	}
}

func (c *channels) writeSize(size Size) error {
	if size == (Size{}) {
		return nil
	}
	message := fmt.Appendf([]byte{remotecommand.StreamResize}, `{"Width":%d,"Height":%d}`, size.Columns, size.Rows)
	return c.write(message)
}
