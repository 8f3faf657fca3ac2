package stream

import (
	"bytes"
	"io"
	"sync"
)

const (
	// inboxLimit is how much input is kept that nobody has read.
	inboxLimit = 256 << 10
	// inboxIdle is the largest buffer that an empty inbox keeps.
	inboxIdle = 64 << 10
)

// inbox is a pipe with a bounded buffer between the receiver of a connection
// and the reader of one of its channels.
type inbox struct {
	mu sync.Mutex
	// changed is signaled whenever the fields below change; mu guards them.
	changed sync.Cond
	unread  bytes.Buffer
	// end is what Read returns after the last byte, once it is known.
	end error
	// discarding means that nobody reads any more and nothing is kept.
	discarding bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.changed.L = &b.mu
	return b
}

// Write takes all of p, and waits for room first. After the end or once
// discarding it takes p without keeping it.
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

// Read waits for input.
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

// close says what Read returns after the last byte. The first call counts.
func (b *inbox) close(end error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == nil {
		b.end = end
	}
	b.changed.Broadcast()
}

// discard ends the reading side: what is there and what still comes is dropped.
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
