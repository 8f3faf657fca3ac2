package ssh

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/flood"
)

// maxGreeting bounds what a server may send before its version.
const maxGreeting = 64 << 10

var errGreetingTooLong = errors.New("more than 64 KiB before the version line")

// transport is the byte stream below SSH. It records what the library does not tell:
// the greeting, signs of life, and the end.
type transport struct {
	net.Conn

	// greeting is nil once the version has been read. The library reads from one
	// goroutine at a time, so it needs no lock.
	greeting *greeting
	// heard counts the reads that returned data, written the bytes that were or may have
	// been written.
	heard, written atomic.Int64
	guard          flood.Guard
	// ended is set before the library sees the end, so that a stream that ended with its
	// connection is not taken for one that the server closed.
	ended atomic.Bool
	// wake is called after each read.
	wake func()
	// cut is true if it ended without a call of Close.
	cut, closed atomic.Bool
}

func (t *transport) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.heard.Add(1)
		t.guard.Received(n)
	}
	if err == nil && t.greeting != nil {
		err = t.readGreeting(p[:n])
	}
	if err != nil {
		t.cut.Store(!t.closed.Load())
		t.ended.Store(true)
	}
	t.wake()
	return n, err
}

func (t *transport) readGreeting(p []byte) error {
	done, err := t.greeting.read(p)
	if done {
		t.greeting.enter(driver.StageKeyExchange, string(bytes.TrimSpace(t.greeting.line)))
		t.greeting = nil
	}
	return err
}

func (t *transport) Write(p []byte) (int, error) {
	t.written.Add(int64(len(p))) // the server may have it before this is known
	n, err := t.Conn.Write(p)
	t.written.Add(int64(n - len(p)))
	t.guard.Sent(n)
	return n, err
}

// Close implements net.Conn.
func (t *transport) Close() error {
	t.closed.Store(true)
	t.ended.Store(true)
	return t.Conn.Close()
}

// greeting is what a server sends up to its version line.
type greeting struct {
	enter func(next driver.Stage, found string)
	line  []byte // the beginning of the current line
	said  []byte // the beginning of the lines before
	total int
}

const keptGreeting = 512

// read reports whether the version line is complete.
func (g *greeting) read(p []byte) (bool, error) {
	for _, b := range p {
		if g.total++; g.total > maxGreeting {
			return false, errGreetingTooLong
		}
		if b != '\n' {
			g.line = keep(g.line, b)
			continue
		}
		if bytes.HasPrefix(g.line, []byte("SSH-")) {
			return true, nil
		}
		g.endLine()
	}
	return false, nil
}

func (g *greeting) endLine() {
	for _, b := range append(g.line, ' ') {
		g.said = keep(g.said, b)
	}
	g.line = g.line[:0]
}

func keep(text []byte, b byte) []byte {
	if len(text) < keptGreeting {
		return append(text, b)
	}
	return text
}

func (g *greeting) text() string { return string(g.said) + string(g.line) }
