package ssh

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
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
	// heard counts the reads that returned data, received the bytes of these, written the
	// bytes that were or may have been written.
	heard, received, written atomic.Int64
	// rekeyedAt is what received and written were together at the last key exchange.
	rekeyedAt atomic.Int64
	// ended is set before the library sees the end, so that a stream that ended with its
	// connection is not taken for one that the server closed.
	ended atomic.Bool
	// cut is true if it ended without a call of Close.
	cut, closed atomic.Bool
}

func (t *transport) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.heard.Add(1)
		t.received.Add(int64(n))
	}
	if err == nil && t.greeting != nil {
		err = t.readGreeting(p[:n])
	}
	if err != nil {
		t.cut.Store(!t.closed.Load())
		t.ended.Store(true)
	}
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
	return n, err
}

// Close implements net.Conn.
func (t *transport) Close() error {
	t.closed.Store(true)
	t.ended.Store(true)
	return t.Conn.Close()
}

// rekeyed notes a key exchange. It reports whether much data went before it, both ways.
func (t *transport) rekeyed() (afterData bool) {
	now := t.received.Load() + t.written.Load()
	return now-t.rekeyedAt.Swap(now) >= rekeyData
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

// floodLimit is how many messages a server may send unasked in floodWindow.
// OpenSSH sends one at the login, and a keepalive every few seconds if configured.
const (
	floodLimit  = 1000
	floodWindow = 10 * time.Second
	// rekeyWeight counts a key exchange, which costs far more than a message.
	rekeyWeight = 20
	// rekeyData is after how many bytes a key exchange is not counted: servers ask for
	// one after so much data (RekeyLimit), which a fast transfer reaches all the time.
	rekeyData = 512 << 10
)

// unasked counts and declines what a server sends unasked.
type unasked struct {
	end func(cause error) // the connection's

	count atomic.Int64
	since atomic.Int64
}

// add counts a message. It reports whether the limit is exceeded, and then ends the
// connection. The windows are rough, because the two counters do not change together,
// but that is enough to recognize a flood.
func (u *unasked) add(weight int64) bool {
	if now := time.Now(); now.UnixNano()-u.since.Load() > int64(floodWindow) {
		u.since.Store(now.UnixNano())
		u.count.Store(0)
	}
	if u.count.Add(weight) <= floodLimit {
		return false
	}
	u.end(driver.Errorf(driver.ProtocolError, driver.StageRun,
		"within 10 seconds the server sent more than 1000 unasked messages, or exchanged keys more than 50 times with little data between; "+
			"check what serves this host"))
	return true
}

func (u *unasked) decline(request *ssh.Request) {
	if !u.add(1) && request.WantReply {
		_ = request.Reply(false, nil)
	}
}

func (u *unasked) declineAll(requests <-chan *ssh.Request) {
	for request := range requests {
		u.decline(request)
	}
}
