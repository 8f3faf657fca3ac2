package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// The longest SPDY frames that a client may send, with data and without. The library would
// accept frames of 16 MiB and queue 250 of them. Stock clients send 32 KiB of data, and 200
// bytes else.
const (
	maxFrame   = 128 << 10
	maxControl = 16 << 10
)

var (
	errFrameTooLong = errors.New("the client sent a SPDY frame of more than 128 KiB, or 16 KiB without data")
	errStreamOrder  = errors.New("the client opened SPDY streams out of order")
)

// frameBuffers lends the buffers in which outgoing frames gather.
var frameBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, maxMessage+frameHeader)) }}

// frames is the transport that the SPDY library uses. It sends each frame in one
// piece, which the library writes in three. Each piece is a system call, a TLS record
// and, in a tunnel, a message.
//
// It also protects the library from what a client could harm it with. A frame that is
// too long ends the connection. So does a repeated stream number: the library would
// start a goroutine to refuse each. And frames sends the pings itself: when the
// library has sent one, a second answer to it makes the library panic.
type frames struct {
	*transport

	reader  io.Reader
	writer  io.Writer
	unread  unread
	in, out frameCursor
	pending *[]byte
	// nextStream is the lowest number that the client may give to its next stream.
	nextStream uint32
	// ponged is called with the ID of each ping of the client: an even one answers a
	// ping of this side. It is set before the first Read.
	ponged func(id uint32)

	writing sync.Mutex // held for one frame
}

// Read implements net.Conn. While too much is not read of what came, it waits, and with it
// everything that the client sends.
func (f *frames) Read(p []byte) (int, error) {
	f.unread.wait()
	n, err := f.reader.Read(p)
	if err := f.in.advance(p[:n], f); err != nil {
		return 0, err
	}
	return n, err
}

// Close implements net.Conn.
func (f *frames) Close() error {
	f.unread.close()
	return f.transport.Close()
}

// data counts a data frame of the client.
func (f *frames) data(stream uint32, length int) { f.unread.add(stream, length) }

// control checks a control frame of the client by its first word.
func (f *frames) control(kind uint16, word uint32) error {
	switch kind {
	case frameSynStream:
		if word < f.nextStream {
			return errStreamOrder
		}
		f.nextStream = word + 2
	case framePing:
		f.ponged(word)
	}
	return nil
}

// Write implements net.Conn. The library calls it from one goroutine at a time, and
// never for parts of two frames.
func (f *frames) Write(p []byte) (int, error) {
	if f.pending == nil {
		f.pending, _ = frameBuffers.Get().(*[]byte)
	}
	*f.pending = append(*f.pending, p...)
	_ = f.out.advance(p, nil)
	if f.out.have > 0 { // the frame is not complete
		return len(p), nil
	}
	err := f.send(*f.pending)
	*f.pending = (*f.pending)[:0]
	frameBuffers.Put(f.pending)
	f.pending = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// ping sends a ping, whose id must be even.
func (f *frames) ping(id uint32) error {
	return f.send(binary.BigEndian.AppendUint32([]byte{0x80, 3, 0, framePing, 0, 0, 0, 4}, id))
}

func (f *frames) send(frame []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	_, err := f.writer.Write(frame)
	return err
}

// The kinds of control frames that inspect looks at.
const (
	frameSynStream = 1
	framePing      = 6
)

const (
	frameHeader = 8
	frameWord   = 4
)

// frameCursor follows the boundaries of frames in a stream of bytes. The last three
// bytes of a frame's header are the length of what follows it.
type frameCursor struct {
	head [frameHeader + frameWord]byte
	have int // of head; 0 between two frames
	left int
}

// inspector looks at frames.
type inspector interface {
	// control is called with the first word of each control frame. Its error ends all.
	control(kind uint16, word uint32) error
	// data is called at the beginning of each data frame.
	data(stream uint32, length int)
}

// advance moves the cursor over p, and shows the frames to inspect, if that is not nil. It
// fails at a frame that is too long, and when inspect does.
func (c *frameCursor) advance(p []byte, inspect inspector) error {
	for len(p) > 0 {
		if c.have < frameHeader {
			n := copy(c.head[c.have:frameHeader], p)
			c.have += n
			p = p[n:]
			if c.have < frameHeader {
				return nil
			}
			isControl, most := c.head[0]&0x80 != 0, maxFrame
			if isControl {
				most = maxControl
			}
			if c.left = int(binary.BigEndian.Uint32(c.head[4:]) & 0xffffff); c.left > most {
				return errFrameTooLong
			}
			if inspect != nil && !isControl {
				inspect.data(binary.BigEndian.Uint32(c.head[:]), c.left)
			}
		}
		n := min(c.left, len(p))
		before := c.have
		c.have += copy(c.head[c.have:], p[:n])
		c.left -= n
		p = p[n:]
		if before < len(c.head) && c.have == len(c.head) && inspect != nil && c.head[0]&0x80 != 0 { // a control frame
			if err := inspect.control(binary.BigEndian.Uint16(c.head[2:]), binary.BigEndian.Uint32(c.head[frameHeader:])&0x7fffffff); err != nil {
				return err
			}
		}
		if c.left == 0 {
			c.have = 0
		}
	}
	return nil
}
