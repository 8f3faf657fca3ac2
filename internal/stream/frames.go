package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// maxFrame is the longest SPDY frame that a client may send. The library takes
// frames of 16 MiB and queues 50 of them; stock clients send 32 KiB.
const maxFrame = 128 << 10

var errFrameTooLong = errors.New("the client sent a SPDY frame of more than 128 KiB")

// frameBuffers lends the buffers in which outgoing frames gather.
var frameBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, maxMessage+frameHeader)) }}

// frames is a transport as the SPDY library sees it. It refuses frames that are
// too long, and it sends each frame in one piece, which the library writes in
// three; underneath, a piece is a system call, a TLS record and in a tunnel a
// message.
type frames struct {
	*transport

	reader  io.Reader
	writer  io.Writer
	in, out frameCursor
	pending *[]byte
}

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.reader.Read(p)
	if f.in.advance(p[:n]) > maxFrame {
		return 0, errFrameTooLong
	}
	return n, err
}

// Write is called by one goroutine at a time, and never for parts of two frames.
func (f *frames) Write(p []byte) (int, error) {
	if f.pending == nil {
		f.pending, _ = frameBuffers.Get().(*[]byte)
	}
	*f.pending = append(*f.pending, p...)
	f.out.advance(p)
	if !f.out.complete() {
		return len(p), nil
	}
	_, err := f.writer.Write(*f.pending)
	*f.pending = (*f.pending)[:0]
	frameBuffers.Put(f.pending)
	f.pending = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

const frameHeader = 8

// frameCursor follows the borders of frames in a stream of bytes. The last three
// bytes of a frame's header are the length of what follows it.
type frameCursor struct {
	header [frameHeader]byte
	have   int
	left   int
}

// advance goes over p and returns the length of the longest frame that began.
func (c *frameCursor) advance(p []byte) (longest int) {
	for len(p) > 0 {
		if c.left > 0 {
			n := min(c.left, len(p))
			c.left -= n
			p = p[n:]
			continue
		}
		n := copy(c.header[c.have:], p)
		c.have += n
		p = p[n:]
		if c.have == frameHeader {
			c.have = 0
			c.left = int(binary.BigEndian.Uint32(c.header[4:]) & 0xffffff)
			longest = max(longest, c.left)
		}
	}
	return longest
}

// complete reports whether the cursor stands between two frames.
func (c *frameCursor) complete() bool { return c.have == 0 && c.left == 0 }
