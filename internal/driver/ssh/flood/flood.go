// Package flood ends an SSH connection whose server sends too much that was not asked
// for: messages, key exchanges, or data that is not read.
//
//	guard.Received(n)             // at every read of the transport
//	guard.Add(1)                  // for a message that was not asked for
//	channel = guard.Watch(channel) // for every channel
//
// The library holds up to 2 MiB of data of a channel until it is read. A server that
// sends it byte by byte makes it 100 MiB of memory, also on a channel on which no
// command was started. So what counts are the bytes of the transport.
package flood

import (
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// messages is how many messages a server may send unasked in window. OpenSSH sends one
// at the login, and a keepalive every few seconds if configured.
const (
	messages = 1000
	window   = 10 * time.Second
	// rekeyWeight counts a key exchange, which costs far more than a message.
	rekeyWeight = 20
	// rekeyData is after how many bytes a key exchange is not counted: servers ask for
	// one after so much data (RekeyLimit), which a fast transfer reaches all the time.
	rekeyData = 512 << 10
	// unreadPerChannel is how many bytes may come for each channel, and for the connection
	// itself, while nothing is read or written on any of them.
	unreadPerChannel = 3 << 20
	// exchange is about how many bytes an answer or a key exchange has at most.
	exchange = 8 << 10
)

// Guard counts for one connection. It is safe for concurrent use.
type Guard struct {
	// End ends the connection, with a cause.
	End func(cause error)

	count, since atomic.Int64
	// moved counts the bytes in both directions, rekeyedAt is what it was at the last key
	// exchange.
	moved, rekeyedAt atomic.Int64
	unread, channels atomic.Int64
}

// Add counts a message. It reports whether the limit is exceeded, and then ends the
// connection. The windows are rough, because the two counters do not change together,
// but that is enough to recognize a flood.
func (g *Guard) Add(weight int64) bool {
	if now := time.Now(); now.UnixNano()-g.since.Load() > int64(window) {
		g.since.Store(now.UnixNano())
		g.count.Store(0)
	}
	if g.count.Add(weight) <= messages {
		return false
	}
	g.End(driver.Errorf(driver.ProtocolError, driver.StageRun,
		"within 10 seconds the server sent more than 1000 unasked messages, or exchanged keys more than 50 times without data between; "+
			"check what serves this host"))
	return true
}

// Rekeyed counts a key exchange, unless much data went before it. It reports the same as
// Add.
func (g *Guard) Rekeyed() bool {
	g.Answered()
	now := g.moved.Load()
	if now-g.rekeyedAt.Swap(now) >= rekeyData {
		return false
	}
	return g.Add(rekeyWeight)
}

// Decline counts and declines a request of the server.
func (g *Guard) Decline(request *ssh.Request) {
	if !g.Add(1) && request.WantReply {
		_ = request.Reply(false, nil)
	}
}

// DeclineAll declines requests until the channel that they are about is closed, which
// Watch has returned.
func (g *Guard) DeclineAll(requests <-chan *ssh.Request) {
	defer g.Closed()
	for request := range requests {
		g.Decline(request)
	}
}

// Sent counts bytes that were sent.
func (g *Guard) Sent(n int) { g.moved.Add(int64(n)) }

// Received counts bytes that were received. It ends the connection if too many have come
// since something was read.
func (g *Guard) Received(n int) {
	g.moved.Add(int64(n))
	if g.unread.Add(int64(n)) > unreadPerChannel*(1+g.channels.Load()) {
		g.End(driver.Errorf(driver.ProtocolError, driver.StageRun,
			"the server sent more data than fits what was asked of it; check what serves this host"))
	}
}

// Answered says that the server has sent something that was asked for.
func (g *Guard) Answered() {
	g.unread.Store(max(0, g.unread.Load()-exchange))
}

// Used says that the data of the server is being used: a use begins, ends or goes on.
func (g *Guard) Used() { g.unread.Store(0) }

// Closed says that a channel is closed which Watch has returned.
func (g *Guard) Closed() {
	g.channels.Add(-1)
	g.Used()
}

// Watch returns a channel whose use the guard sees. Closed must follow.
func (g *Guard) Watch(channel ssh.Channel) ssh.Channel {
	g.channels.Add(1)
	return &watched{channel, g}
}

type watched struct {
	ssh.Channel

	guard *Guard
}

func (w *watched) Read(p []byte) (int, error) { return w.guard.used(w.Channel.Read(p)) }

func (w *watched) Write(p []byte) (int, error) { return w.guard.used(w.Channel.Write(p)) }

// Stderr implements ssh.Channel.
func (w *watched) Stderr() io.ReadWriter { return &watchedErrors{w.Channel.Stderr(), w.guard} }

type watchedErrors struct {
	io.ReadWriter

	guard *Guard
}

func (w *watchedErrors) Read(p []byte) (int, error) { return w.guard.used(w.ReadWriter.Read(p)) }

func (g *Guard) used(n int, err error) (int, error) {
	if n > 0 {
		g.Used()
	}
	return n, err
}
