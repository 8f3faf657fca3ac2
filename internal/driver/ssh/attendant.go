package ssh

import (
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// rest is how long a connection must be quiet until its attendant leaves.
const rest = 250 * time.Millisecond

// attendant answers the server's requests: those about the connection, and those about
// the session that was opened last, which is the spare if no command runs. It accepts
// only the streams of listeners that were opened here.
//
// It is a goroutine that leaves when nothing has come for a while, and that whatever
// comes calls back. So an idle connection costs none. It stays while a command runs on
// the newest session, and once the transport has ended. If the library passes anything
// else on so late that the attendant has left, as on a machine that stood still, then
// that is answered when the next bytes come: at the next keepalive at the latest.
type attendant struct {
	conn  *conn
	state atomic.Int32 // one of those below

	// sessions has a place for one that was opened just now.
	sessions chan *sessionChannel
	// The goroutine owns the rest.
	channels <-chan ssh.NewChannel // nil when closed, as the next one
	requests <-chan *ssh.Request
	newest   *sessionChannel // nil when it has ended
}

// The states of an attendant. During a handshake it is called, too.
const (
	called int32 = iota // there, and something has come
	there
	away
)

// start begins the work on an established connection.
func (a *attendant) start(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	a.channels, a.requests = channels, requests
	go a.attend()
}

// wake is called when something has come, or is to come, from the server.
func (a *attendant) wake() {
	for {
		if a.state.Load() == called || a.state.CompareAndSwap(there, called) {
			return
		}
		if a.state.CompareAndSwap(away, there) {
			go a.attend()
			return
		}
	}
}

// isBusy reports whether the attendant has to stay.
func (a *attendant) isBusy() bool {
	return a.newest != nil && a.newest.taken.Load() || a.conn.transport.ended.Load()
}

// leaves reports whether the goroutine may end: nothing has called for it since it was
// asked last.
func (a *attendant) leaves() bool {
	return !a.state.CompareAndSwap(called, there) && !a.isBusy() && a.state.CompareAndSwap(there, away)
}

// attend works until the connection is quiet or has ended.
func (a *attendant) attend() {
	quiet := time.NewTimer(rest)
	defer quiet.Stop()
	for a.channels != nil || a.requests != nil || a.newest != nil {
		var ofNewest <-chan *ssh.Request
		if a.newest != nil {
			ofNewest = a.newest.requests
		}
		select {
		case channel, ok := <-a.channels:
			a.offered(channel, ok)
		case request, ok := <-a.requests:
			a.asked(request, ok)
		case request, ok := <-ofNewest:
			if a.askedOfNewest(request, ok); !ok {
				quiet.Reset(rest)
			}
		case opened := <-a.sessions:
			a.handOver(a.newest)
			a.newest = opened
			quiet.Reset(rest)
		case <-quiet.C:
			if a.leaves() {
				return
			}
			if !a.isBusy() { // else the end of the command begins the rest
				quiet.Reset(rest)
			}
		}
	}
	a.conn.end(a.conn.endError(a.conn.client.Wait()))
	a.handOverLast()
}

// opened gives the attendant a session.
func (a *attendant) opened(s *sessionChannel) {
	select {
	case a.sessions <- s:
		a.wake()
	case <-a.conn.ctx.Done():
		a.handOver(s)
	}
	if a.conn.ctx.Err() != nil {
		a.handOverLast()
	}
}

// handOver gives a session, if any, a goroutine of its own.
func (a *attendant) handOver(s *sessionChannel) {
	if s != nil {
		go s.attend(&a.conn.transport.guard)
	}
}

// handOverLast is for a session that came when the connection had ended.
func (a *attendant) handOverLast() {
	select {
	case s := <-a.sessions:
		a.handOver(s)
	default:
	}
}

// offered takes or rejects a channel that the server wants to open.
func (a *attendant) offered(channel ssh.NewChannel, ok bool) {
	if !ok {
		a.channels = nil
		return
	}
	if !a.conn.listeners.take(channel) && !a.conn.transport.guard.Add(1) {
		_ = channel.Reject(ssh.UnknownChannelType, "not asked for")
	}
}

func (a *attendant) asked(request *ssh.Request, ok bool) {
	if !ok {
		a.requests = nil
		return
	}
	a.conn.transport.guard.Decline(request)
}

func (a *attendant) askedOfNewest(request *ssh.Request, ok bool) {
	guard := &a.conn.transport.guard
	if !ok {
		a.newest.end(guard)
		a.newest = nil
		return
	}
	a.newest.answer(request, guard)
}
