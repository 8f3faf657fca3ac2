package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/connpool/connpool/internal/spdyframe"
)

var (
	errStreamOrder    = errors.New("the client opened SPDY streams out of order")
	errControlTooLong = errors.New("the client sent a SPDY frame without data of more than 16 KiB")
)

// maxControl is the longest frame without data that a client may send. Behind workers that
// wait, the library queues 250 of them. Those of stock clients have 200 bytes.
const maxControl = 16 << 10

// frameBuffers lends the buffers in which outgoing frames gather.
var frameBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, maxMessage+spdyframe.HeaderBytes)) }}

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
	in, out spdyframe.Cursor
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
	if err := f.in.Advance(p[:n], f.inspect); err != nil {
		return 0, err
	}
	return n, err
}

// Close implements net.Conn.
func (f *frames) Close() error {
	f.unread.close()
	return f.transport.Close()
}

// inspect checks a frame of the client.
func (f *frames) inspect(frame spdyframe.Frame) error {
	switch {
	case frame.Kind == spdyframe.Data:
		f.unread.add(frame.Word, frame.Length)
	case frame.Length > maxControl:
		return errControlTooLong
	case frame.Kind == spdyframe.Ping:
		f.ponged(frame.Word)
	case frame.Kind == spdyframe.SynStream && frame.Word < f.nextStream:
		return errStreamOrder
	case frame.Kind == spdyframe.SynStream:
		f.nextStream = frame.Word + 2
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
	_ = f.out.Advance(p, nil)
	if !f.out.Between() {
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
	return f.send(binary.BigEndian.AppendUint32([]byte{0x80, 3, 0, byte(spdyframe.Ping), 0, 0, 0, 4}, id))
}

func (f *frames) send(frame []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	_, err := f.writer.Write(frame)
	return err
}
