package registry

import (
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage/names"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

const (
	// endedMemory is how long an ended session is still listed.
	endedMemory = 10 * time.Minute
	// maxEnded bounds how many of them are; the oldest go first.
	maxEnded = 1000
)

// sessionStore is which sessions there are.
type sessionStore struct {
	mu     sync.Mutex // guards what follows; nothing waits under it
	byName map[types.NamespacedName]*heldSession
	// ended are those of byName that have ended, oldest first.
	ended []*heldSession
	// leaving says that no new ones are taken.
	leaving bool
}

func newSessionStore() *sessionStore {
	return &sessionStore{byName: map[types.NamespacedName]*heldSession{}}
}

// reserve gives a session its name, before it has a shell. One that has ended gives
// its name up.
func (s *sessionStore) reserve(held *heldSession) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	if s.leaving {
		return refusedBeforeStart(unavailable, reasonShutdown, "the operator is shutting down; try again")
	}
	name := held.name()
	for tries := 0; name.Name == "" || s.lives(name); tries++ {
		if held.object.GenerateName == "" || tries == maxNamesTried {
			return taken(name)
		}
		name.Name = names.SimpleNameGenerator.GenerateName(held.object.GenerateName)
	}
	if before := s.byName[name]; before != nil {
		s.drop(before)
	}
	held.object.Name = name.Name
	s.byName[name] = held
	return nil
}

func (s *sessionStore) lives(name types.NamespacedName) bool {
	held := s.byName[name]
	return held != nil && held.endedAt.IsZero()
}

// find returns a session that has a shell, or had one.
func (s *sessionStore) find(namespace, name string) (*heldSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	held := s.byName[types.NamespacedName{Namespace: namespace, Name: name}]
	if held == nil || !held.open {
		return nil, apierrors.NewNotFound(live.Resource("sessions"), name)
	}
	return held, nil
}

// all returns those of a namespace, or of all when it is empty.
func (s *sessionStore) all(namespace string) []*heldSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	var found []*heldSession
	for name, held := range s.byName {
		if held.open && (namespace == "" || name.Namespace == namespace) {
			found = append(found, held)
		}
	}
	return found
}

// opened lists a session from here on, unless it came too late.
func (s *sessionStore) opened(held *heldSession) (tooLate bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held.open = true
	return s.leaving
}

// retire notes that a session has ended; it stays listed for a while.
func (s *sessionStore) retire(held *heldSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held.endedAt = time.Now()
	if s.byName[held.name()] != held {
		return // somebody has deleted it
	}
	s.ended = append(s.ended, held)
	s.forget(held.endedAt)
}

// remove forgets a session at once.
func (s *sessionStore) remove(held *heldSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(held)
}

func (s *sessionStore) drop(held *heldSession) {
	if s.byName[held.name()] == held {
		delete(s.byName, held.name())
	}
}

// forget drops what has been listed for long enough.
func (s *sessionStore) forget(now time.Time) {
	for len(s.ended) > 0 && (len(s.ended) > maxEnded || now.Sub(s.ended[0].endedAt) >= endedMemory) {
		s.drop(s.ended[0])
		s.ended[0] = nil
		s.ended = s.ended[1:]
	}
}

// leave ends all that do nothing, and the others after what they do now. No new
// ones are taken.
func (s *sessionStore) leave() {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	for _, held := range s.all("") {
		held.leaveSoon()
	}
}

// compareSessions orders by namespace and name.
func compareSessions(a, b live.Session) int {
	if order := strings.Compare(a.Namespace, b.Namespace); order != 0 {
		return order
	}
	return strings.Compare(a.Name, b.Name)
}
