package ssh

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/flood"
)

// sessionChannel is an open session channel, on which one command may be started.
type sessionChannel struct {
	ssh.Channel

	requests <-chan *ssh.Request // of the server
	taken    atomic.Bool         // a command may be started
	// ended is closed when the channel is. What follows may be read then.
	ended  chan struct{}
	exited bool // the server said how the command ended
	status driver.ExitStatus
}

// opening is a channel that is being opened, or was. The caller that took the opening
// owns its channel.
type opening struct {
	done    chan struct{}
	channel *sessionChannel
	err     error
}

// spare keeps one channel open ahead. A caller takes it, even if it is still being
// opened, and starts the next one. So callers at the same moment open theirs beside each
// other, and each waits for at most one round trip.
//
// The spare may occupy the last session that the server grants. So a caller whose own
// channel is refused takes the spare that has been opened since, and a refused spare is
// tried again when a channel has ended. Callers notice nothing of this until there are
// really too many channels.
type spare struct {
	conn *conn

	mu   sync.Mutex
	next *opening // nil when there is none
}

// openFirst opens the first spare. Without one no command can run.
func (s *spare) openFirst() error {
	o := s.replenish()
	<-o.done
	failed, ok := driver.Classified(o.err)
	if !ok {
		return nil
	}
	refused, isAnswer := errors.AsType[*ssh.OpenChannelError](failed.Err)
	if !isAnswer {
		return failed
	}
	return driver.Errorf(driver.SessionLimit, driver.StageSession, "%s", driver.Sanitize(
		"the server grants no session ("+refused.Message+"), so no command can run; raise MaxSessions in its sshd_config, "+
			"or let no pool select the target: it can still serve as a jump host")).Because(failed.Err)
}

func (s *spare) take() *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.next
	if taken == nil || taken.useless() {
		taken = s.open()
	}
	if s.next = nil; s.conn.opensAhead() {
		s.next = s.open()
	}
	return taken
}

func (s *spare) takeExisting() *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.next
	s.next = nil
	return taken
}

func (s *spare) replenish() *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil || s.next.useless() {
		s.next = s.open()
	}
	return s.next
}

// opensAhead reports whether a channel may wait for its command. Whenever a command
// ends, dropbear closes all sessions that have none, and often fails over it.
func (c *conn) opensAhead() bool {
	return !strings.Contains(string(c.client.ServerVersion()), "dropbear")
}

func (o *opening) useless() bool {
	select {
	case <-o.done:
	default:
		return false
	}
	return o.err != nil || o.channel.hasEnded()
}

func (s *spare) open() *opening {
	o := &opening{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.channel, o.err = openSession(s.conn)
	}()
	return o
}

// opened is the library's answer to OpenChannel.
type opened struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

// openChannel opens a channel, or fails when the connection ends. The library waits
// for ever for the answer to a request that it sent after its reader had ended.
func openChannel(c *conn, kind string, extra []byte) opened {
	answer := make(chan opened, 1)
	go func() {
		var o opened
		o.channel, o.requests, o.err = c.client.OpenChannel(kind, extra)
		answer <- o
	}()
	select {
	case o := <-answer:
		if o.err == nil {
			o.channel = c.transport.guard.Watch(o.channel)
		}
		return o
	case <-c.ctx.Done():
		return opened{err: context.Cause(c.ctx)}
	}
}

func openSession(c *conn) (*sessionChannel, error) {
	if c.ctx.Err() != nil {
		return nil, c.death(driver.StageSession, false)
	}
	deadline := c.deadline(driver.StageSession)
	defer deadline.Stop()
	o := openChannel(c, "session", nil)
	if sessionError(o.err) != nil {
		// OpenSSH counts a session that has ended until it has read everything that
		// arrived before, including this request. So ask once more after a round trip.
		_, _, _ = c.client.SendRequest(keepaliveRequest, true, nil)
		o = openChannel(c, "session", nil)
	}
	if o.err == nil {
		s := &sessionChannel{Channel: o.channel, requests: o.requests, ended: make(chan struct{})}
		c.attendant.opened(s)
		return s, nil
	}
	if refused := sessionError(o.err); refused != nil {
		return nil, refused
	}
	return nil, c.broken(o.err, driver.StageSession, false)
}

// attend handles the server's requests on a channel until it ends. The attendant does the
// same for the newest channel.
func (s *sessionChannel) attend(guard *flood.Guard) {
	for request := range s.requests {
		s.answer(request, guard)
	}
	s.end(guard)
}

// answer handles a request of the server. OpenSSH sends its keepalives there, also on a
// channel without a command.
func (s *sessionChannel) answer(request *ssh.Request, guard *flood.Guard) {
	switch {
	case request.Type == "exit-status" && len(request.Payload) >= 4:
		s.exited = true
		s.status.Code = int(binary.BigEndian.Uint32(request.Payload))
	case request.Type == "exit-signal":
		s.exited = true
		s.status = signalStatus(request.Payload)
	default:
		guard.Decline(request)
	}
}

// end takes note that the channel is closed.
func (s *sessionChannel) end(guard *flood.Guard) {
	guard.Closed()
	close(s.ended)
}

// signalNumbers are the numbers of signals that SSH can name and whose number is the
// same on every system.
var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

func signalStatus(payload []byte) driver.ExitStatus {
	var message struct {
		Signal string
		Rest   []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(payload, &message) != nil || message.Signal == "" {
		message.Signal = "unknown"
	}
	status := driver.ExitStatus{Code: 255, Signal: driver.Sanitize(message.Signal)}
	if number, ok := signalNumbers[status.Signal]; ok {
		status.Code = 128 + number
	}
	return status
}

// acquire returns a channel on which nothing has been started.
func (s *spare) acquire(ctx context.Context) (*sessionChannel, error) {
	o := s.take()
	for {
		select {
		case <-o.done:
		case <-ctx.Done():
			go o.abandon()
			return nil, driver.Errorf(driver.Timeout, driver.StageSession, "no session was opened in time").Because(ctx.Err())
		}
		failed, ok := driver.Classified(o.err)
		if !ok {
			o.channel.taken.Store(true)
			s.conn.attendant.wake()
			return o.channel, nil
		}
		next := s.takeExisting()
		if failed.Reason != driver.SessionLimit || next == nil {
			return nil, failed
		}
		o = next
	}
}

func (o *opening) abandon() {
	if <-o.done; o.err == nil {
		_ = o.channel.Close()
	}
}

// signal is best effort: a server that does not support it does not say so.
func (s *sessionChannel) signal(name string) {
	_, _ = s.SendRequest("signal", false, payload(name))
}

func (s *sessionChannel) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *sessionChannel) endsWithin(patience time.Duration) bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(patience):
		return false
	}
}
