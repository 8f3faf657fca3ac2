package poolset

import (
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// problems are why targets cannot be used as they are declared, in the words of those
// who read the declarations. The set itself knows only what it was given.
type problems struct {
	mu       sync.Mutex
	byTarget map[string]*driver.Error // by UID
}

// Explain remembers why a target, given by its UID, cannot be used as it is declared now;
// nil if it can. Requests that find no connection are refused in these words, which no
// caller may change any more.
func (s *Set) Explain(uid string, problem *driver.Error) {
	s.problems.mu.Lock()
	defer s.problems.mu.Unlock()
	if problem == nil {
		delete(s.problems.byTarget, uid)
		return
	}
	s.problems.byTarget[uid] = problem
}

// Problem returns what Explain was told last of a target; nil if it can be used, or if
// nothing is known of it.
func (s *Set) Problem(uid string) *driver.Error {
	s.problems.mu.Lock()
	defer s.problems.mu.Unlock()
	return s.problems.byTarget[uid]
}
