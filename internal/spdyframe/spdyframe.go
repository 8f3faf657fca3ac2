// Package spdyframe looks at SPDY frames before the SPDY library does, which takes more
// than a process can afford: frames of 16 MiB, fifty of them in each of its queues, and
// headers that unfold to gigabytes.
//
// The library reads the fields of a control frame whatever length the frame has. If a
// frame were shorter or longer than its fields, the library and a Cursor would disagree
// on where the next frame begins, and the Cursor would look at the wrong bytes. So a
// frame whose length does not fit its kind is an error too.
package spdyframe

import (
	"encoding/binary"
	"errors"

	"github.com/moby/spdystream/spdy"
)

const (
	// MaxBytes is the longest frame that a peer may send. Stock peers send 32 KiB of
	// data, and 200 bytes else.
	MaxBytes = 128 << 10
	// MaxControlBytes is the longest frame without data.
	MaxControlBytes = 16 << 10
	// Bounds of a stream's headers. Stock peers send three short ones.
	maxHeaders     = 16
	maxHeaderBytes = 1 << 10
)

// HeaderBytes is the length of what every frame begins with.
const HeaderBytes = 8

// wordBytes is the length of the first field of a control frame.
const wordBytes = 4

var (
	// ErrTooLong means that the peer sent a frame of more than MaxBytes, or a control
	// frame of more than MaxControlBytes.
	ErrTooLong = errors.New("the peer sent a SPDY frame of more than 128 KiB, or 16 KiB without data")
	// ErrMalformed means that the peer sent a control frame that does not exist, or whose
	// length does not fit its kind.
	ErrMalformed = errors.New("the peer sent a malformed SPDY frame")
)

// Options are those of the SPDY library that bound headers.
func Options() []spdy.FramerOption {
	return []spdy.FramerOption{spdy.WithMaxHeaderCount(maxHeaders), spdy.WithMaxHeaderFieldSize(maxHeaderBytes)}
}

// Kind is that of a frame.
type Kind uint16

// The kinds of frames. Data is not the number of a control frame.
const (
	Data         Kind = 0
	SynStream         = Kind(spdy.TypeSynStream)
	SynReply          = Kind(spdy.TypeSynReply)
	RstStream         = Kind(spdy.TypeRstStream)
	Settings          = Kind(spdy.TypeSettings)
	Ping              = Kind(spdy.TypePing)
	GoAway            = Kind(spdy.TypeGoAway)
	Headers           = Kind(spdy.TypeHeaders)
	WindowUpdate      = Kind(spdy.TypeWindowUpdate)
)

// Frame is the beginning of a frame.
type Frame struct {
	Kind Kind
	// Word is the number of the stream, for those kinds that have one: all but Settings,
	// which have how many there are, and Ping, which has its ID.
	Word uint32
	// Length is how many bytes follow the frame's header.
	Length int
}

// Cursor follows the boundaries of frames in a stream of bytes.
type Cursor struct {
	head [HeaderBytes + wordBytes]byte
	have int // of head; 0 between two frames
	left int
}

// Between reports whether the last frame is complete.
func (c *Cursor) Between() bool { return c.have == 0 }

// Advance moves the cursor over p. It calls inspect, if that is not nil, with the
// beginning of each frame, before the frame is complete. It fails at a frame that is too
// long or malformed, and when inspect does.
func (c *Cursor) Advance(p []byte, inspect func(Frame) error) error {
	for len(p) > 0 {
		if c.have < HeaderBytes {
			n := copy(c.head[c.have:HeaderBytes], p)
			c.have += n
			p = p[n:]
			if c.have < HeaderBytes {
				return nil
			}
			if err := c.begin(inspect); err != nil {
				return err
			}
		}
		n := min(c.left, len(p))
		before := c.have
		c.have += copy(c.head[c.have:], p[:n])
		c.left -= n
		p = p[n:]
		if before < len(c.head) && c.have == len(c.head) && c.isControl() {
			if err := c.look(inspect); err != nil {
				return err
			}
		}
		if c.left == 0 {
			c.have = 0
		}
	}
	return nil
}

func (c *Cursor) isControl() bool { return c.head[0]&0x80 != 0 }

func (c *Cursor) kind() Kind { return Kind(binary.BigEndian.Uint16(c.head[2:])) }

func (c *Cursor) length() int { return int(binary.BigEndian.Uint32(c.head[4:]) & 0xffffff) }

// begin looks at the header of a frame.
func (c *Cursor) begin(inspect func(Frame) error) error {
	c.left = c.length()
	switch {
	case c.left > MaxBytes, c.isControl() && c.left > MaxControlBytes:
		return ErrTooLong
	case c.isControl() && !fits(c.kind(), c.left):
		return ErrMalformed
	case !c.isControl() && inspect != nil:
		return inspect(Frame{Kind: Data, Word: binary.BigEndian.Uint32(c.head[:]), Length: c.left})
	}
	return nil
}

// look looks at the first field of a control frame.
func (c *Cursor) look(inspect func(Frame) error) error {
	word := binary.BigEndian.Uint32(c.head[HeaderBytes:])
	if c.kind() == Settings && int64(word)*settingBytes != int64(c.length()-wordBytes) {
		return ErrMalformed
	}
	if inspect == nil {
		return nil
	}
	return inspect(Frame{Kind: c.kind(), Word: word & 0x7fffffff, Length: c.length()})
}

const settingBytes = 8

// fits reports whether a control frame of a kind may have a length. The library itself
// checks that headers end with their frame.
func fits(kind Kind, length int) bool {
	switch kind {
	case SynStream:
		return length >= 10
	case SynReply, Headers, Settings:
		return length >= wordBytes
	case Ping:
		return length == 4
	case RstStream, GoAway, WindowUpdate:
		return length == 8
	case Data: // which is no control frame
	}
	return false
}
