package stream

import (
	"bytes"
	"io"
	"sync"
)

const (
	// inboxLimit is how much unread input is kept.
	inboxLimit = 256 << 10
	// inboxIdle is the largest buffer that an empty inbox keeps.
	inboxIdle = 64 << 10
)

// inbox is a pipe with a bounded buffer, from the receiver of a connection to the
// reader of one of its channels.
type inbox struct {
	mu sync.Mutex
	// changed is signaled when one of the fields below changes. mu guards them.
	changed sync.Cond
	unread  bytes.Buffer
	// end is what Read returns after the last byte, once it is known.
	end error
	// discarding means that input is no longer read, and not kept.
	discarding bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.changed.L = &b.mu
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
	return b.unread.Write(p)
}

// Read implements io.Reader. It waits for input.
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
	if b.unread.Len() == 0 && b.unread.Cap() > inboxIdle {
		b.unread = bytes.Buffer{}
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
	b.unread = bytes.Buffer{}
	if b.end == nil {
		b.end = io.ErrClosedPipe
	}
	b.changed.Broadcast()
}
