// Package output writes the log, and makes nothing wait for what reads it.
//
//	queue := output.New(os.Stderr)
//	defer queue.Close(2 * time.Second)
//	log, audit := queue.Writer(output.Size/2), queue.Writer(output.Size)
//	...
//	audit.Dropped()
//
// What reads the log of a container can be slow, or stop, when a disk is full for example.
// A program that writes to the pipe itself stops then, too, at its next line. Here lines
// wait within a bound, and what has no room is dropped and counted.
//
// Trade-offs: a line is written a moment after it was logged, so the last ones are lost when
// the program is killed. Lines are dropped whole, the newest first, because those that wait
// have been promised.
package output

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Size is how many bytes can wait to be written, beside as many that are being written.
const Size = 2 << 20

// Queue is the lines that wait to be written. Its methods are safe for concurrent use.
type Queue struct {
	to io.Writer
	// wake has an element while there is something to write, and is closed by Close.
	wake chan struct{}
	// done is closed when all is written after that.
	done chan struct{}

	mu      sync.Mutex
	waiting []byte
	closed  bool
	// lost is how many lines were dropped since told was called, which says so once lines
	// are written again.
	lost uint64
	told func(lines uint64)
}

// New returns a queue that writes until it is closed.
func New(to io.Writer) *Queue {
	q := &Queue{to: to, wake: make(chan struct{}, 1), done: make(chan struct{}), told: func(uint64) {}}
	go q.write()
	return q
}

// TellLost sets what is told how many lines were lost, once lines can be written again. It
// may log that.
func (q *Queue) TellLost(told func(lines uint64)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told = told
}

// Close waits until everything is written, but not longer than the patience. Later lines are
// dropped. It must be called once.
func (q *Queue) Close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	close(q.wake)
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-time.After(patience):
	}
}

func (q *Queue) write() {
	defer close(q.done)
	var spare []byte
	for range q.wake {
		lines := q.take(spare)
		_, _ = q.to.Write(lines) // there is nowhere to say that it failed
		spare = lines[:0]
		if lost, told := q.loss(); lost > 0 {
			told(lost)
		}
	}
	_, _ = q.to.Write(q.take(nil))
}

// take returns what waits, and lets other lines wait in the room of spare.
func (q *Queue) take(spare []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.waiting
	q.waiting = spare
	return lines
}

// loss returns how many lines were lost since it last did, and what is told so; none while
// other lines wait, among which there may be no room to say it.
func (q *Queue) loss() (lost uint64, told func(uint64)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		lost, q.lost = q.lost, 0
	}
	return lost, q.told
}

// add reports whether there was room for a line.
func (q *Queue) add(line []byte, room int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting)+len(line) > room {
		q.lost++
		return false
	}
	q.waiting = append(q.waiting, line...)
	select {
	case q.wake <- struct{}{}:
	default: // it is awake
	}
	return true
}

// Writer returns a writer whose lines are dropped when more than room bytes would wait.
func (q *Queue) Writer(room int) *Writer { return &Writer{queue: q, room: room} }

// Writer takes the lines of a part of the log.
type Writer struct {
	queue   *Queue
	room    int
	dropped atomic.Uint64
}

// Write implements io.Writer for whole lines. It does not block, and has no error: the logger
// would write a line about it.
func (w *Writer) Write(line []byte) (int, error) {
	if !w.queue.add(line, w.room) {
		w.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped returns how many lines were dropped.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }
