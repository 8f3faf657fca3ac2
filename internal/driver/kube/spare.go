package kube

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const (
	// spareSockets is how many sockets a client keeps ahead.
	spareSockets = 2
	// freshness is how often each of them has an exchange. kube-apiserver closes a
	// new socket after 32 seconds without a request, and an old one after 90.
	freshness = 20 * time.Second
)

// spares are sockets that are open ahead. Each is watched by a goroutine that
// notices its end and keeps it fresh; whoever takes one may write at once.
type spares struct {
	client *client

	mu     sync.Mutex // guards what follows
	idle   []*spare   // oldest first
	coming int        // sockets on their way here
	closed bool
}

type spare struct {
	socket *socket
	since  time.Time
	// taken and its watch's end: whoever takes it waits for the end, then knows
	// whether it is alive.
	taken   bool // guarded by the spares' lock
	watched chan struct{}
	alive   bool
}

// take returns a socket on which nothing has happened, or nil if there is none.
func (s *spares) take() *socket {
	defer s.replenish()
	for {
		s.mu.Lock()
		if len(s.idle) == 0 {
			s.mu.Unlock()
			return nil
		}
		newest := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		newest.taken = true
		// The watch sets its own deadline under the lock, and not after this one.
		_ = newest.socket.SetReadDeadline(past)
		s.mu.Unlock()
		if <-newest.watched; newest.alive {
			return newest.socket
		}
	}
}

// add gives a socket that is open to those who come, or closes it.
func (s *spares) add(socket *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) >= spareSockets || !socket.idle() {
		go socket.Close() //nolint:errcheck // saying goodbye may take long
		return
	}
	added := &spare{socket: socket, since: time.Now(), watched: make(chan struct{})}
	s.idle = append(s.idle, added)
	_ = socket.SetDeadline(time.Time{})
	_ = socket.SetReadDeadline(time.Now().Add(freshness))
	go s.watch(added)
}

// watch reads what must not come, until somebody takes the socket, its end comes,
// or it is time to use it.
func (s *spares) watch(w *spare) {
	_, err := w.socket.reader.Peek(1)
	quiet := isTimeout(err)
	if s.leave(w) {
		w.alive = quiet && w.socket.SetReadDeadline(time.Time{}) == nil
		if !w.alive {
			_ = w.socket.Close()
		}
		close(w.watched)
		return
	}
	if quiet && s.refresh(w.socket) {
		s.arrive(w.socket)
		return
	}
	_ = w.socket.Close()
	s.arrive(nil)
	if time.Since(w.since) > freshness/2 { // a server that keeps none is not asked again and again
		s.replenish()
	}
}

// leave takes a socket from the idle ones, unless it was taken, which it reports.
// One that leaves by itself is on its way back.
func (s *spares) leave(w *spare) (taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.taken {
		return true
	}
	s.idle = slices.DeleteFunc(s.idle, func(other *spare) bool { return other == w })
	s.coming++
	return false
}

// arrive ends the way of a socket; nil if it got lost.
func (s *spares) arrive(socket *socket) {
	s.mu.Lock()
	s.coming--
	s.mu.Unlock()
	if socket != nil {
		s.add(socket)
	}
}

// refresh has an exchange on a socket, so that its server keeps it.
//
//nolint:contextcheck,nolintlint // it is the client's affair, whoever needed the socket
func (s *spares) refresh(socket *socket) bool {
	ctx, cancel := context.WithTimeout(s.client.ctx, s.client.patience())
	defer cancel()
	_ = socket.SetReadDeadline(time.Time{})
	got, err := s.client.ask(ctx, socket, versionPath, driver.StageKeepalive)
	if err != nil || !socket.idle() {
		return false
	}
	if got.status == http.StatusUnauthorized {
		s.client.suspect()
	}
	return true
}

// replenish dials as many as are missing, in the background. If that fails, the
// next sign of life of the server tries again.
func (s *spares) replenish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && len(s.idle)+s.coming < spareSockets {
		s.coming++
		go func() {
			socket, err := s.client.open(s.client.ctx, s.client.wayOut())
			if err != nil {
				socket = nil
			}
			s.arrive(socket)
		}()
	}
}

// close closes all, for good.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, w := range s.idle {
		_ = w.socket.SetReadDeadline(past) // its watch finds no client and closes it
	}
}
