// Package halfclose lets an upgraded HTTP connection end one direction at a time
// across proxies that would end both.
//
// Docker says by the end of one direction that a command's input is over, and
// still reads its output. kube-apiserver, which stands between the plugin and the
// operator, ends the whole connection then: the output is lost, and docker takes
// it for success. So whoever asks for the upgrade asks for frames, too, in which
// the end of a direction is a word like any other:
//
//	halfclose.Ask(request.Header)                 // client, with an upgrade
//	w = halfclose.Accept(w, request)              // server, before it is hijacked
//	halfclose.Unwrap(response)                    // client, with the answer
//
// A server that does not know of this answers without frames, and then all is as
// it was.
//
// Trade-off: four bytes and one copy for each piece of data, against a WebSocket
// inside of which everything would have to be another protocol.
package halfclose

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// header asks for frames in a request and promises them in its answer.
const header = "Connpool-Frames"

// version of the frames: the length of the data in four bytes, big endian, and
// the data. A frame without data ends its direction.
const version = "1"

const (
	headBytes = 4
	// maxData bounds the data of the frames that we send. Others may send longer
	// ones: they are read as they come.
	maxData = 32 << 10
)

// Ask makes a request for an upgrade ask for frames.
func Ask(request http.Header) { request.Set(header, version) }

// Withdraw makes a request ask for none, whoever asked for them.
func Withdraw(request http.Header) { request.Del(header) }

// Unwrap makes the body of an upgraded connection one that can end in halves, if
// the server agreed.
func Unwrap(response *http.Response) {
	body, ok := response.Body.(io.ReadWriteCloser)
	if !ok || response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get(header) != version {
		return
	}
	response.Header.Del(header)
	response.Body = newStream(body, body)
}

// Accept returns the response to use for a request: one that uses frames when it
// is hijacked, if the request asks for them. The request asks for them no longer.
func Accept(w http.ResponseWriter, request *http.Request) http.ResponseWriter {
	asked := request.Header.Get(header) == version
	request.Header.Del(header)
	if !asked {
		return w
	}
	return &response{w}
}

type response struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController find what is inside.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Hijack implements http.Hijacker. What is written to the buffers comes before the
// first frame: it is the answer, whose header tells of the frames.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, buffers, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	r.Header().Set(header, version)
	c := &conn{Conn: raw, stream: newStream(raw, buffers.Reader)}
	return c, bufio.NewReadWriter(bufio.NewReader(c), buffers.Writer), nil
}

// conn is the server's end.
type conn struct {
	net.Conn

	stream *stream
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.stream.Read(p) }

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// CloseWrite ends one direction.
func (c *conn) CloseWrite() error { return c.stream.CloseWrite() }

// NetConn is the connection below the frames, as in crypto/tls. After the last
// frame it can be watched for its end.
func (c *conn) NetConn() net.Conn { return c.Conn }

var errWriteClosed = errors.New("this direction has ended")

// stream is data in frames.
type stream struct {
	raw io.ReadWriteCloser

	// in is raw, with what was read ahead. Only Read touches it and what follows.
	in io.Reader
	// left of the frame that is being read.
	left uint32
	// ended: the last frame has come.
	ended bool

	mu          sync.Mutex // guards frame and writeClosed, and keeps frames whole
	frame       []byte
	writeClosed bool
}

func newStream(raw io.ReadWriteCloser, in io.Reader) *stream { return &stream{raw: raw, in: in} }

// Read implements io.Reader. A connection that ends without its last frame was
// cut.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.next(); err != nil {
		return 0, err
	}
	n, err := s.in.Read(p[:min(int64(len(p)), int64(s.left))])
	s.left -= uint32(n)
	if n > 0 {
		return n, nil
	}
	return 0, cut(err)
}

// next reads the head of a frame, unless one is being read.
func (s *stream) next() error {
	if s.left > 0 {
		return nil
	}
	if s.ended {
		return io.EOF
	}
	var head [headBytes]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return cut(err)
	}
	if s.left = binary.BigEndian.Uint32(head[:]); s.left == 0 {
		s.ended = true
		return io.EOF
	}
	return nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (written int, err error) {
	for written < len(p) {
		data := p[written:min(len(p), written+maxData)]
		if err := s.send(data, false); err != nil {
			return written, err
		}
		written += len(data)
	}
	return written, nil
}

// CloseWrite ends one direction. Reading goes on.
func (s *stream) CloseWrite() error {
	err := s.send(nil, true)
	if errors.Is(err, errWriteClosed) {
		return nil
	}
	return err
}

// send writes one frame at once, so that it is one record of TLS.
func (s *stream) send(data []byte, last bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeClosed {
		return errWriteClosed
	}
	s.writeClosed = last
	s.frame = binary.BigEndian.AppendUint32(s.frame[:0], uint32(len(data)))
	s.frame = append(s.frame, data...)
	_, err := s.raw.Write(s.frame)
	return err
}

// Close ends both directions at once.
func (s *stream) Close() error { return s.raw.Close() }
