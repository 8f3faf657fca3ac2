package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"time"
)

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// maxHeaderBytes bounds the headers of an answer.
const maxHeaderBytes = 1 << 20

var errHeaderTooLong = errors.New("the headers of the answer are longer than 1 MiB")

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

// Read implements net.Conn.
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
	body := response.Body
	response.Body = closing{body, func() error {
		defer stop() // afterwards, because closing reads the rest of the body
		return body.Close()
	}}
	return response, nil
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
