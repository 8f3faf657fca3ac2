package stream

import "sync"

// unreadLimit is how much data of a SPDY connection may wait to be read, in all of its
// streams. The library would keep 250 frames.
const unreadLimit = 128 << 10

// unread counts the data of the client that is not read yet, by stream. Data for streams
// that are not open does not count, because the library drops it.
type unread struct {
	mu sync.Mutex
	// changed is signaled when less is unread, and at the end. mu guards what follows.
	changed sync.Cond
	streams map[uint32]int
	total   int
	closed  bool
}

// wait returns when data may come.
func (u *unread) wait() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed.L = &u.mu
	for u.total >= unreadLimit && !u.closed {
		u.changed.Wait()
	}
}

// open begins to count a stream.
func (u *unread) open(stream uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.streams == nil {
		u.streams = map[uint32]int{}
	}
	u.streams[stream] = 0
}

// add counts data that has come for a stream, or with a negative length, was read. The
// frames that came before the stream was opened are read, but were not counted.
func (u *unread) add(stream uint32, length int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before, open := u.streams[stream]
	if !open {
		return
	}
	after := max(0, before+length)
	u.streams[stream] = after
	u.total += after - before
	u.changed.Broadcast()
}

// drop forgets a stream and its data.
func (u *unread) drop(stream uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total -= u.streams[stream]
	delete(u.streams, stream)
	u.changed.Broadcast()
}

// close ends all waiting.
func (u *unread) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.changed.Broadcast()
}
