package ssh

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// sessionChannel is an open session channel, on which one command may be started.
type sessionChannel struct {
	ssh.Channel

	// ended is closed when the channel is. What follows may be read then.
	ended  chan struct{}
	exited bool // the server has told how the command ended
	status driver.ExitStatus
}

// opening is a session that is being opened, or was. Whoever holds it owns the
// session that comes of it.
type opening struct {
	done    chan struct{}
	channel *sessionChannel
	err     error
}

// spare keeps one session open ahead. A caller takes it, finished or not, and
// starts the next one, so that callers at the same moment open theirs beside
// each other and nobody waits for longer than one round trip.
//
// The spare may occupy the last session that the server grants. So a caller
// whose own opening is refused takes the spare that has been opened since, and
// a refused spare is tried again when a session has ended. None of this is
// visible unless there are really too many sessions.
type spare struct {
	mu   sync.Mutex
	next *opening // nil when there is none
}

// openFirst opens the first spare and says what came of it. A server that grants no
// session at all may still be of use, as a jump host.
func (c *conn) openFirst() (found string, err error) {
	o := c.spare.replenish(c.open)
	<-o.done
	failed, ok := driver.Classified(o.err)
	switch {
	case !ok:
		return "session opened", nil
	case failed.Reason == driver.SessionLimit:
		return "the server grants no session now; it can still serve as a jump target", nil
	}
	return "", failed
}

// take returns the next session and starts the one after it.
func (s *spare) take(open func() *opening) *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.next
	if taken == nil || taken.useless() {
		taken = open()
	}
	s.next = open()
	return taken
}

// takeExisting returns the next session if there is one.
func (s *spare) takeExisting() *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.next
	s.next = nil
	return taken
}

// replenish starts a session if there is none.
func (s *spare) replenish(open func() *opening) *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil || s.next.useless() {
		s.next = open()
	}
	return s.next
}

// useless reports that the opening has failed, or that its session is over.
func (o *opening) useless() bool {
	select {
	case <-o.done:
	default:
		return false
	}
	if o.err != nil {
		return true
	}
	select {
	case <-o.channel.ended:
		return true
	default:
		return false
	}
}

// open starts to open a session.
func (c *conn) open() *opening {
	o := &opening{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.channel, o.err = c.openChannel()
	}()
	return o
}

func (c *conn) openChannel() (*sessionChannel, error) {
	if c.ctx.Err() != nil {
		return nil, c.death(driver.StageSession, false)
	}
	deadline := c.deadline(driver.StageSession)
	defer deadline.Stop()
	channel, requests, err := c.client.OpenChannel("session", nil)
	if sessionError(err, driver.StageSession) != nil {
		// OpenSSH counts a session that has ended until it has read all that has
		// arrived meanwhile, this request included. So ask once more after a
		// round trip.
		_, _, _ = c.client.SendRequest(keepaliveRequest, true, nil)
		channel, requests, err = c.client.OpenChannel("session", nil)
	}
	if err == nil {
		s := &sessionChannel{Channel: channel, ended: make(chan struct{})}
		go c.attend(s, requests)
		return s, nil
	}
	if refused := sessionError(err, driver.StageSession); refused != nil {
		return nil, refused
	}
	return nil, c.broken(err, driver.StageSession, false)
}

// attend answers what the server asks on a session until it ends. OpenSSH sends
// its keepalives there, to spare sessions too.
func (c *conn) attend(s *sessionChannel, requests <-chan *ssh.Request) {
	defer close(s.ended)
	for request := range requests {
		switch {
		case request.Type == "exit-status" && len(request.Payload) >= 4:
			s.exited = true
			s.status.Code = int(binary.BigEndian.Uint32(request.Payload))
		case request.Type == "exit-signal":
			s.exited = true
			s.status = signalStatus(request.Payload)
		default:
			c.decline(request)
		}
	}
}

// signalNumbers are those of the signals that SSH can name and that every
// system numbers alike.
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

// acquire returns a session on which nothing has been started.
func (c *conn) acquire(ctx context.Context) (*sessionChannel, error) {
	o := c.spare.take(c.open)
	for {
		select {
		case <-o.done:
		case <-ctx.Done():
			go o.abandon()
			err := notStarted(driver.Timeout, driver.StageSession, "no session was opened in time")
			err.Err = ctx.Err()
			return nil, err
		}
		failed, ok := driver.Classified(o.err)
		if !ok {
			return o.channel, nil
		}
		next := c.spare.takeExisting()
		if failed.Reason != driver.SessionLimit || next == nil {
			return nil, failed
		}
		o = next
	}
}

// abandon closes a session that nobody waits for any more.
func (o *opening) abandon() {
	if <-o.done; o.err == nil {
		_ = o.channel.Close()
	}
}

// release has a spare opened again that the server refused while this session
// was open.
func (c *conn) release() {
	if c.ctx.Err() == nil {
		c.spare.replenish(c.open)
	}
}

// Ended implements running.Command.
func (s *sessionChannel) Ended() <-chan struct{} { return s.ended }

// signal is best effort: the server may not support it, and does not say.
func (s *sessionChannel) signal(name string) {
	_, _ = s.SendRequest("signal", false, payload(name))
}

// endsWithin reports whether the session ended in time.
func (s *sessionChannel) endsWithin(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.ended:
		return true
	case <-timer.C:
		return false
	}
}
