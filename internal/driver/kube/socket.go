package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

var past = time.Unix(1, 0)

// maxHeaderBytes bounds the headers of an answer. Servers bound those of requests to a
// few dozen KiB, and answers have shorter ones.
const maxHeaderBytes = 256 << 10

var errHeaderTooLong = errors.New("the headers of the answer are longer than 256 KiB")

// socket is an encrypted byte stream that speaks HTTP/1.1, for one request at a time.
type socket struct {
	*tls.Conn

	reader *bufio.Reader
	// left is how many bytes of headers may still be read, or negative where data may
	// come. net/http bounds only what its own transport reads.
	left int
	// spent is true when the server closes the socket after its answer.
	spent bool
}

func newSocket(encrypted *tls.Conn) *socket {
	s := &socket{Conn: encrypted, left: -1}
	s.reader = bufio.NewReaderSize(s, 4<<10)
	return s
}

func (s *socket) Read(p []byte) (int, error) {
	if s.left < 0 {
		return s.Conn.Read(p)
	}
	if s.left == 0 {
		return 0, errHeaderTooLong
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// RoundTrip implements http.RoundTripper. The socket cannot be used again if the
// context ends before the body is closed.
func (s *socket) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(past) })
	response, err := s.send(request)
	if err != nil {
		stop()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	s.spent = s.spent || response.Close
	body := &ending{Reader: response.Body}
	whole := response.Body.Close
	response.Body = closing{body, func() error {
		defer stop() // afterwards, because closing reads the rest of the body
		if !body.ended {
			s.spent = true
			s.hangUp() // before, because the rest may have no end
		}
		return whole()
	}}
	return response, nil
}

// ending notes the end of what it reads.
type ending struct {
	io.Reader

	ended bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || err != nil
	return n, err
}

func (s *socket) send(request *http.Request) (*http.Response, error) {
	writer := bufio.NewWriter(s.Conn)
	if err := request.Write(writer); err != nil {
		return nil, err
	}
	if err := writer.Flush(); err != nil {
		return nil, err
	}
	s.left = maxHeaderBytes
	defer func() { s.left = -1 }()
	return http.ReadResponse(s.reader, request)
}

// closing is a body that is closed by a function.
type closing struct {
	io.Reader

	close func() error
}

// Close implements io.Closer.
func (c closing) Close() error { return c.close() }

// idle reports whether everything has been read and another request may follow.
func (s *socket) idle() bool { return !s.spent && s.reader.Buffered() == 0 }

// hangUp closes the socket at once, without close_notify, which may take long.
func (s *socket) hangUp() { _ = s.NetConn().Close() }

// upgrade makes a WebSocket of a socket, or returns the answer of a server that
// refuses. An error's Started tells whether the request was written.
func (c *conn) upgrade(ctx context.Context, path string, query url.Values, protocol string) (*kubestream.Socket, *answer, *driver.Error) {
	address, err := c.client.config.url(path, query.Encode())
	if err != nil {
		return nil, nil, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the request does not make a valid URL; correct the names in it")
	}
	address.Scheme = "ws" // the socket is encrypted already
	socket, failed := c.socket(ctx)
	if failed != nil {
		return nil, nil, failed
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.options.StageTimeout)
	defer cancel()
	opened, refused, err := c.client.config.shakeHands(ctx, socket, address, protocol)
	if err == nil {
		return opened, refused, nil
	}
	result := transportError(err, driver.StageStart, c.client.config.address)
	if errors.Is(err, kubestream.ErrSubprotocol) {
		result = driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the cluster does not speak %s; it needs Kubernetes 1.31 or newer", protocol)
	}
	result.Started = true
	return nil, nil, result
}

// shakeHands upgrades on a socket that is open already, and closes it if that
// fails or if the server refuses.
func (c *config) shakeHands(
	ctx context.Context, socket *socket, address *url.URL, protocol string,
) (*kubestream.Socket, *answer, error) {
	header := http.Header{"User-Agent": {userAgent}}
	c.authenticate(header)
	dialer := websocket.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return socket, nil },
		Subprotocols:   []string{protocol},
	}
	socket.left = maxHeaderBytes
	heartbeat := c.heartbeat()
	opened, response, err := kubestream.Upgrade(ctx, dialer, address.String(), header, heartbeat) //nolint:bodyclose // it is in memory
	socket.left = -1
	if err == nil {
		return opened, nil, nil
	}
	socket.hangUp()
	if !errors.Is(err, websocket.ErrBadHandshake) || response.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil, err
	}
	body := make([]byte, maxAnswerBytes)
	n, _ := response.Body.Read(body)
	return nil, &answer{status: response.StatusCode, header: response.Header, body: body[:n]}, nil
}

// heartbeat says how a command or a port-forward finds out that the server is dead.
// API servers answer pings, and send none.
func (c *config) heartbeat() kubestream.Heartbeat {
	return kubestream.Heartbeat{Ping: c.keepalive.interval / 2, Patience: c.keepalive.interval + c.keepalive.timeout}
}
