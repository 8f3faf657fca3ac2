package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/connpool/connpool/internal/driver"
)

// lastWords is how long the end of a stream waits for the other side.
const lastWords = time.Second

// ForwardPod implements driver.PodForwarder. Each stream has a socket of its own.
// The protocol has no word for success: if nothing listens at the port, the first
// Read says so, with an *driver.Error. The stream has CloseWrite; a deadline that
// passes ends it for good.
func (c *conn) ForwardPod(ctx context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	place, err := c.place(pod)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, notStarted(driver.NotFound, driver.StageStart, "0 is no port of a pod; give one from 1 to 65535")
	}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	opening, done := c.while(ctx)
	defer done()
	socket, refused, err := c.upgrade(opening, podPath(place)+"/portforward", nil, portforward.WebsocketsSPDYTunnelingPortForwardV1)
	if refused != nil {
		err = c.refusedStart(refused, place)
	}
	if err != nil {
		return nil, c.why(ctx, err)
	}
	stream, err := c.forward(opening, socket, fmt.Sprintf("port %d of pod %s", port, place.Pod), port)
	if err != nil {
		return nil, c.why(ctx, err)
	}
	return stream, nil
}

// forward opens the two streams of a port-forward: the one for errors comes first.
func (c *conn) forward(ctx context.Context, socket *webSocket, name string, port uint16) (net.Conn, *driver.Error) {
	stop := context.AfterFunc(ctx, socket.hangUp)
	deadline := time.AfterFunc(c.client.options.StageTimeout, socket.hangUp)
	defer deadline.Stop()
	streams, err := spdy.NewClientConnection(&tunnel{webSocket: socket})
	if err != nil {
		socket.hangUp()
		return nil, transportError(err, driver.StageStart, c.client.config.address)
	}
	problems, data, err := openStreams(streams, port)
	if err == nil && stop() && deadline.Stop() {
		return newPodStream(c, socket, streams, data, problems, name), nil
	}
	socket.hangUp()
	_ = streams.Close()
	if err == nil || errors.Is(err, net.ErrClosed) {
		err = context.DeadlineExceeded
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, transportError(err, driver.StageStart, c.client.config.address)
}

func openStreams(streams httpstream.Connection, port uint16) (problems, data httpstream.Stream, err error) {
	header := http.Header{}
	header.Set("Port", strconv.Itoa(int(port)))
	header.Set("Requestid", "0")
	header.Set("Streamtype", "error")
	if problems, err = streams.CreateStream(header); err != nil {
		return nil, nil, err
	}
	_ = problems.Close() // we have nothing to say there
	header.Set("Streamtype", "data")
	data, err = streams.CreateStream(header)
	return problems, data, err
}

// tunnel is a byte stream in the binary messages of a WebSocket. One goroutine
// reads; those who write take turns.
type tunnel struct {
	*webSocket

	message io.Reader
}

var _ net.Conn = (*tunnel)(nil)

// Read reads on across messages.
func (t *tunnel) Read(p []byte) (int, error) {
	defer t.deafen()
	for {
		t.listen()
		if t.message == nil {
			_, message, err := t.NextReader()
			if err != nil {
				return 0, io.EOF
			}
			t.message = message
		}
		n, err := t.message.Read(p)
		if errors.Is(err, io.EOF) {
			t.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends one message.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the tunnel at once.
func (t *tunnel) Close() error {
	t.hangUp()
	return nil
}

// SetDeadline implements net.Conn. SPDY sets none.
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}
