package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// inboxLimit is how much unread input is kept.
	inboxLimit = 128 << 10
	// inboxIdle is the largest buffer of its own that an inbox has.
	inboxIdle = maxMessage
)

// inboxBuffers lends larger ones to inboxes whose input comes faster than it is read.
// Twice the most that is unread always has room for it: bytes.Buffer then moves it to the
// front.
var inboxBuffers = sync.Pool{New: func() any {
	return bytes.NewBuffer(make([]byte, 0, 2*(inboxLimit+maxMessage)))
}}

// inbox is a pipe with a bounded buffer, from the receiver of a connection to the
// reader of one of its channels.
type inbox struct {
	mu sync.Mutex
	// changed is signaled when one of the fields below changes. mu guards them.
	changed sync.Cond
	unread  *bytes.Buffer
	// own is the small buffer, and unread is that or a lent one.
	own bytes.Buffer
	// end is what Read returns after the last byte, once it is known.
	end error
	// discarding means that input is no longer read, and not kept.
	discarding bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.changed.L, b.unread = &b.mu, &b.own
	return b
}

// Write waits for room and then takes all of p. After the end, or while discarding,
// it drops p.
func (b *inbox) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.unread.Len() >= inboxLimit && !b.discarding && b.end == nil {
		b.changed.Wait()
	}
	if b.discarding || b.end != nil {
		return len(p), nil
	}
	b.changed.Broadcast()
	if b.unread == &b.own && b.own.Len()+len(p) > inboxIdle {
		b.borrow()
	}
	return b.unread.Write(p)
}

// borrow moves what is unread into a lent buffer.
func (b *inbox) borrow() {
	lent, _ := inboxBuffers.Get().(*bytes.Buffer)
	_, _ = b.own.WriteTo(lent)
	b.unread = lent
}

// giveBack drops what is unread, and gives a lent buffer back.
func (b *inbox) giveBack() {
	b.unread.Reset()
	if b.unread != &b.own {
		inboxBuffers.Put(b.unread)
		b.unread = &b.own
	}
	if b.own.Cap() > inboxIdle {
		b.own = bytes.Buffer{}
	}
}

func (b *inbox) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.unread.Len() == 0 && b.end == nil {
		b.changed.Wait()
	}
	if b.unread.Len() == 0 {
		return 0, b.end
	}
	n, _ := b.unread.Read(p)
	if b.unread.Len() == 0 {
		b.giveBack()
	}
	b.changed.Broadcast()
	return n, nil
}

// close sets what Read returns after the last byte. The first call counts.
func (b *inbox) close(end error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == nil {
		b.end = end
	}
	b.changed.Broadcast()
}

// discard drops the input that is there and that still comes.
func (b *inbox) discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discarding = true
	b.giveBack()
	b.own = bytes.Buffer{}
	if b.end == nil {
		b.end = io.ErrClosedPipe
	}
	b.changed.Broadcast()
}

// maxSignals is how many signals wait for a command that has not got the first one.
const maxSignals = 8

// signals takes the names of signals, one in each message.
type signals chan driver.Signal

// Write takes all of p, and never fails. It drops what is not a signal, and signals
// that find no room.
func (s signals) Write(p []byte) (int, error) {
	if signal := driver.Signal(p); slices.Contains(driver.Signals, signal) {
		select {
		case s <- signal:
		default:
		}
	}
	return len(p), nil
}

// maxSizeBytes bounds the text of one terminal size.
const maxSizeBytes = 1 << 10

// sizes reads window sizes from the JSON objects that a client sends about its
// terminal. One goroutine writes and closes.
type sizes struct {
	pending []byte
	// broken means that the text is not JSON, so that the rest is ignored.
	broken bool
	// newest holds the last size, unless it was received.
	newest chan driver.WindowSize
}

func newSizes() *sizes {
	return &sizes{newest: make(chan driver.WindowSize, 1)}
}

// Write takes all of p, and never fails. Sizes that make no sense are ignored.
func (s *sizes) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !s.broken; {
		n := min(len(rest), maxSizeBytes)
		s.pending = append(s.pending, rest[:n]...)
		rest = rest[n:]
		s.parse()
	}
	return len(p), nil
}

func (s *sizes) close() { close(s.newest) }

// parse removes every complete object from pending.
func (s *sizes) parse() {
	decoder := json.NewDecoder(bytes.NewReader(s.pending))
	var done int64
	for {
		var size struct {
			Width  uint16 `json:"Width"`
			Height uint16 `json:"Height"`
		}
		err := decoder.Decode(&size)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if _, skip := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !skip {
			s.broken, s.pending = true, nil
			return
		}
		done = decoder.InputOffset()
		if err == nil && size.Width > 0 && size.Height > 0 {
			s.offer(driver.WindowSize{Columns: size.Width, Rows: size.Height})
		}
	}
	s.pending = bytes.TrimLeft(s.pending[done:], " \t\r\n")
	s.broken = len(s.pending) > maxSizeBytes
}

// offer replaces a size that was not received yet: only the newest matters.
func (s *sizes) offer(size driver.WindowSize) {
	select {
	case <-s.newest:
	default:
	}
	s.newest <- size
}
