// Package standby keeps a few sockets dialed ahead, so that a command or a
// request need not wait for a handshake.
//
//	sockets := standby.New(standby.Options[*tls.Conn]{Count: 2, Dial: dial, Lost: lost})
//	sockets.Replenish()
//	if socket, ok := sockets.Take(); ok {
//		...
//	}
//
// A server has nothing to say on such a socket before it is asked, so each is read
// from until it is taken: that notices a server that closes it, and one that speaks
// unasked, whose socket is dropped. What Take returns was intact a moment before.
//
// The price is a socket and a goroutine for each while the connection is idle.
package standby

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

var past = time.Unix(1, 0)

// Options say what a Standby keeps.
type Options[S net.Conn] struct {
	// Count is how many sockets are kept ahead.
	Count int
	// Dial opens one in the background. It must return when the connection has ended.
	Dial func() (S, error)
	// Lost is told that a socket ended by itself, and how old it was. Whether to
	// replenish then is for the owner to decide: a server that closes every socket at
	// once must not keep it dialing.
	Lost func(age time.Duration)
	// Refresh, when not nil, is called for each socket that was not used for
	// Freshness, so that its server keeps it. It reports whether the socket is still
	// of use.
	Refresh   func(S) bool
	Freshness time.Duration
}

// Standby holds the sockets. It is safe for concurrent use.
type Standby[S net.Conn] struct {
	options Options[S]

	mu     sync.Mutex  // guards what follows
	ready  []*entry[S] // oldest first
	coming int         // sockets being dialed or refreshed
	closed bool
}

// entry is one socket and its watch.
type entry[S net.Conn] struct {
	socket S
	since  time.Time
	taken  bool // guarded by the Standby's lock
	// watched is closed when the watch of a socket that was taken has ended; intact
	// may be read then.
	watched chan struct{}
	intact  bool
}

// New returns an empty Standby.
func New[S net.Conn](options Options[S]) *Standby[S] { return &Standby[S]{options: options} }

// Take returns the oldest socket that is intact, if there is one, and has its
// successor dialed. The socket belongs to the caller and has no deadline.
func (s *Standby[S]) Take() (socket S, ok bool) {
	defer s.Replenish()
	for e := s.pop(); e != nil; e = s.pop() {
		if <-e.watched; e.intact {
			return e.socket, true
		}
	}
	return socket, false
}

func (s *Standby[S]) pop() *entry[S] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return nil
	}
	oldest := s.ready[0]
	s.ready = s.ready[1:]
	oldest.taken = true
	_ = oldest.socket.SetReadDeadline(past) // under the lock, so that it comes after Put's
	return oldest
}

// Put keeps a socket on which nothing is under way, or closes it if there are
// enough.
func (s *Standby[S]) Put(socket S) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.ready) >= s.options.Count {
		go socket.Close() // TLS close_notify may take long
		return
	}
	e := &entry[S]{socket: socket, since: time.Now(), watched: make(chan struct{})}
	s.ready = append(s.ready, e)
	_ = socket.SetDeadline(time.Time{})
	if s.options.Refresh != nil {
		_ = socket.SetReadDeadline(time.Now().Add(s.options.Freshness))
	}
	go s.watch(e)
}

// Ready returns how many sockets could be taken.
func (s *Standby[S]) Ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

// Replenish dials as many sockets as are missing, in the background. A dial that
// fails is not repeated: the next call tries again.
func (s *Standby[S]) Replenish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && len(s.ready)+s.coming < s.options.Count {
		s.coming++
		go s.fill()
	}
}

func (s *Standby[S]) fill() {
	socket, err := s.options.Dial()
	s.arrive()
	if err == nil {
		s.Put(socket)
	}
}

// Close closes all sockets, now and later.
func (s *Standby[S]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, e := range s.ready {
		_ = e.socket.SetReadDeadline(past) // its watch closes it
	}
}

// watch reads from a socket until it is taken, ends, or has to be refreshed.
func (s *Standby[S]) watch(e *entry[S]) {
	n, err := e.socket.Read(make([]byte, 1))
	quiet := n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
	taken, closed := s.leave(e)
	if taken {
		e.intact = quiet && e.socket.SetReadDeadline(time.Time{}) == nil
		if !e.intact {
			_ = e.socket.Close()
		}
		close(e.watched)
		return
	}
	if quiet && !closed && s.refresh(e.socket) {
		s.arrive()
		s.Put(e.socket)
		return
	}
	_ = e.socket.Close()
	s.arrive()
	if !closed {
		s.options.Lost(time.Since(e.since))
	}
}

func (s *Standby[S]) refresh(socket S) bool {
	if s.options.Refresh == nil {
		return false
	}
	_ = socket.SetReadDeadline(time.Time{})
	return s.options.Refresh(socket)
}

// leave removes a socket from those that are ready, and reports whether it has been
// taken. If not, it counts as coming until its watch has decided what becomes of it.
func (s *Standby[S]) leave(e *entry[S]) (taken, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.taken {
		return true, s.closed
	}
	s.ready = slices.DeleteFunc(s.ready, func(other *entry[S]) bool { return other == e })
	s.coming++
	return false, s.closed
}

func (s *Standby[S]) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming--
}
