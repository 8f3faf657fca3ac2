package session

import (
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage/names"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

const (
	// endedMemory is how long an ended session is still listed.
	endedMemory = 10 * time.Minute
	// maxEnded bounds how many ended sessions are listed; the oldest go first.
	maxEnded = 1000
	// maxNamesTried bounds how often another name is chosen because one is taken.
	maxNamesTried = 8
)

type store struct {
	mu     sync.Mutex // guards what follows; nothing waits under it
	byName map[types.NamespacedName]*liveSession
	// ended are those of byName that have ended, oldest first.
	ended  []*liveSession
	closed bool
}

func newStore() *store {
	return &store{byName: map[types.NamespacedName]*liveSession{}}
}

// reserve gives a session its name, which an ended session gives up.
func (s *store) reserve(session *liveSession) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	if s.closed {
		return refusal.NotStarted(refusal.Unavailable, use.ReasonShutdown, "the operator is shutting down; try again")
	}
	name := session.name()
	for tries := 0; name.Name == "" || s.lives(name); tries++ {
		if session.object.GenerateName == "" || tries == maxNamesTried {
			return apierrors.NewAlreadyExists(live.Resource("sessions"), name.Name)
		}
		name.Name = names.SimpleNameGenerator.GenerateName(session.object.GenerateName)
	}
	if before := s.byName[name]; before != nil {
		s.drop(before)
	}
	session.object.Name = name.Name
	s.byName[name] = session
	return nil
}

func (s *store) lives(name types.NamespacedName) bool {
	session := s.byName[name]
	return session != nil && session.endedAt.IsZero()
}

// find returns a session that has a shell, or had one.
func (s *store) find(namespace, name string) (*liveSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	session := s.byName[types.NamespacedName{Namespace: namespace, Name: name}]
	if session == nil || !session.open {
		return nil, apierrors.NewNotFound(live.Resource("sessions"), name)
	}
	return session, nil
}

// all returns the sessions of a namespace, or of all when it is empty.
func (s *store) all(namespace string) []*liveSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	var found []*liveSession
	for name, session := range s.byName {
		if session.open && (namespace == "" || name.Namespace == namespace) {
			found = append(found, session)
		}
	}
	return found
}

// opened lists a session. tooLate reports whether new ones are refused by now.
func (s *store) opened(session *liveSession) (tooLate bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.open = true
	return s.closed
}

// retire notes that a session has ended; it stays listed for a while.
func (s *store) retire(session *liveSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.endedAt = time.Now()
	if s.byName[session.name()] != session {
		return // it was deleted
	}
	s.ended = append(s.ended, session)
	s.forget(session.endedAt)
}

func (s *store) remove(session *liveSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(session)
}

func (s *store) drop(session *liveSession) {
	if s.byName[session.name()] == session {
		delete(s.byName, session.name())
	}
}

// forget drops ended sessions that have been listed for long enough.
func (s *store) forget(now time.Time) {
	for len(s.ended) > 0 && (len(s.ended) > maxEnded || now.Sub(s.ended[0].endedAt) >= endedMemory) {
		s.drop(s.ended[0])
		s.ended[0] = nil
		s.ended = s.ended[1:]
	}
}

func (s *store) endWhenIdle() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, session := range s.all("") {
		session.endWhenIdle()
	}
}
