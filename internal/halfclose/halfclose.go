// Package halfclose lets an upgraded HTTP connection end one direction at a time
// across proxies that would end both.
//
// The docker command line ends one direction when a command's input is over, and
// still reads the output. kube-apiserver, which is between the plugin and the
// operator, then ends the whole connection: the output is lost, and docker takes
// that for success. So the client that asks for the upgrade also asks for frames,
// in which the end of a direction is a frame like any other:
//
//	halfclose.Ask(request.Header)                 // client, with an upgrade
//	w = halfclose.Accept(w, request)              // server, before it is hijacked
//	halfclose.Unwrap(response)                    // client, with the answer
//
// A server that does not know frames answers without them, and the connection
// carries plain bytes.
//
// Trade-off: frames cost four bytes and one copy for each piece of data. The
// alternative, a WebSocket, would need another protocol inside of it.
package halfclose

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
)

// header asks for frames in a request, and announces them in the answer.
const header = "Connpool-Frames"

// version is that of the frames. A frame is the length of its data in four bytes, big
// endian, and the data. A frame without data ends its direction.
const version = "1"

const (
	headBytes = 4
	// maxData bounds the data of the frames that this package sends. It reads longer
	// ones too, without keeping a whole frame in memory.
	maxData = 32 << 10
)

// Ask adds the wish for frames to the headers of a request for an upgrade.
func Ask(request http.Header) { request.Set(header, version) }

// Withdraw removes the wish for frames from the headers of a request.
func Withdraw(request http.Header) { request.Del(header) }

// Unwrap replaces the body of an upgraded connection by one that reads and writes
// frames, and has CloseWrite, if the server announced frames.
func Unwrap(response *http.Response) {
	body, ok := response.Body.(io.ReadWriteCloser)
	if !ok || response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get(header) != version {
		return
	}
	response.Header.Del(header)
	response.Body = newStream(body, body)
}

// Accept returns the ResponseWriter to use for a request. If the request asks for
// frames, a connection hijacked from it uses them. Accept removes the wish from the
// request.
func Accept(w http.ResponseWriter, request *http.Request) http.ResponseWriter {
	asked := request.Header.Get(header) == version
	request.Header.Del(header)
	if !asked {
		return w
	}
	return &response{w}
}

type response struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController find the ResponseWriter inside.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Hijack implements http.Hijacker. What the caller writes to the buffers goes out as
// it is: that is the answer, whose header announces the frames.
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

func (c *conn) Read(p []byte) (int, error) { return c.stream.Read(p) }

func (c *conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// CloseWrite ends one direction.
func (c *conn) CloseWrite() error { return c.stream.CloseWrite() }

// NetConn returns the connection below the frames, as in crypto/tls. After the last
// frame, a Read of it returns when the connection ends.
func (c *conn) NetConn() net.Conn { return c.Conn }

var errWriteClosed = errors.New("this direction has ended")

// stream is data in frames.
type stream struct {
	raw io.ReadWriteCloser

	// in reads from raw, after what was read ahead. Only Read uses it and the next two.
	in io.Reader
	// left is how many bytes of the current frame are still to be read.
	left uint32
	// ended means that the last frame has come.
	ended bool

	mu          sync.Mutex // guards frame and writeClosed, and keeps frames whole
	frame       []byte
	writeClosed bool
}

func newStream(raw io.ReadWriteCloser, in io.Reader) *stream { return &stream{raw: raw, in: in} }

// Read implements io.Reader. A connection that ends before its last frame was cut:
// that is io.ErrUnexpectedEOF.
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

// next reads the head of a frame, unless the current one is not read to its end.
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

func (s *stream) Write(p []byte) (written int, err error) {
	for data := range slices.Chunk(p, maxData) {
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

// send writes a frame in one piece, so that it is one TLS record.
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
