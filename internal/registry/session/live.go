package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage/names"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/audit"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
	shells "github.com/connpool/connpool/internal/session"
)

// Reasons why a session was ended, beside those of uses.
const (
	// reasonDeleted surfaces when a user has deleted the session.
	reasonDeleted driver.Reason = "Deleted"
	// reasonExpired surfaces when the session's ttlSeconds are over.
	reasonExpired driver.Reason = "Expired"
	// reasonIdle surfaces when it has run no command for idleTimeoutSeconds.
	reasonIdle driver.Reason = "Idle"
)

type liveSession struct {
	// use is the request that created it, which lasts as long as the session.
	use *use.Use

	object  live.Session // without what changes
	created time.Time
	env     map[string]string // until the shell has it

	shell   *shells.Shell
	lease   poolset.Lease
	info    use.LeaseInfo
	release func()
	// ctx ends when the session does, after the reason is known.
	ctx    context.Context //nolint:containedctx // of its life, which no call spans
	cancel context.CancelFunc

	// open and endedAt are guarded by store.mu.
	open    bool
	endedAt time.Time

	// record takes into the history how it ended.
	record func(why driver.Reason, duration time.Duration)

	// mu guards what follows; nothing waits under it.
	mu           sync.Mutex
	running      int // commands, including those that wait for their turn
	count        int64
	lastUsed     time.Time
	idleSince    time.Time
	endsWhenIdle bool
	idle         *time.Timer
	deletedBy    string // the user who has deleted it, if one has
}

func (s *liveSession) name() types.NamespacedName {
	return types.NamespacedName{Namespace: s.object.Namespace, Name: s.object.Name}
}

func (s *liveSession) describe() *live.Session {
	session := s.object.DeepCopy()
	status := &session.Status
	s.mu.Lock()
	defer s.mu.Unlock()
	status.State, status.CommandCount = live.SessionReady, s.count
	if !s.lastUsed.IsZero() {
		status.LastUsedTime = &metav1.Time{Time: s.lastUsed}
	}
	why := s.shell.Err()
	switch {
	case why != nil:
		status.State, status.Reason, status.Message = live.SessionEnded, string(why.Reason), why.Message+"; create another session"
	case s.running > 0:
		status.State = live.SessionBusy
	}
	return session
}

func endReason(reason driver.Reason, message string) *driver.Error {
	return &driver.Error{Reason: reason, Stage: driver.StageSession, Message: message}
}

// delete ends the session because a user has deleted it.
func (s *liveSession) delete(who string) {
	s.mu.Lock()
	s.deletedBy = who
	s.mu.Unlock()
	s.end(endReason(reasonDeleted, "it was deleted by "+driver.Sanitize(who)))
}

func (s *liveSession) end(why *driver.Error) {
	s.shell.End(why)
	s.cancel()
}

// supervise waits for the end in the background, gives the lease back and calls ended.
func (s *liveSession) supervise(ended func()) {
	s.mu.Lock()
	s.idleSince = time.Now()
	s.idle = time.AfterFunc(s.idleTimeout(), s.endIfIdle)
	s.mu.Unlock()
	go func() {
		s.wait()
		s.use.Gate.Config.Pools.Return(s.lease, s.shell.Failure())
		ended()
		s.audit("session ended")
		s.record(s.shell.Err().Reason, time.Since(s.created))
		s.release()
	}()
}

// wait returns when the shell has ended. It ends the shell when its time is over.
func (s *liveSession) wait() {
	defer s.idle.Stop()
	defer s.cancel()
	ctx, stop := s.use.Watch(s.ctx)
	defer stop()
	expiry := time.NewTimer(seconds(s.object.Spec.TTLSeconds))
	defer expiry.Stop()
	select {
	case <-s.shell.Done():
	case <-expiry.C:
		s.end(endReason(reasonExpired, "its ttlSeconds are over"))
	case <-ctx.Done():
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, use.ErrRevoked):
			s.end(endReason(use.ReasonRevoked,
				"the permission of its creator was revoked, or the creator's ServiceAccount was deleted; "+
					"ask for the verb create on the pool's exec again"))
		case errors.Is(cause, use.ErrShutdown):
			s.end(errShutDown)
		}
	}
	<-s.shell.Done()
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func (s *liveSession) idleTimeout() time.Duration { return seconds(s.object.Spec.IdleTimeoutSeconds) }

// endIfIdle ends the session unless a command has come in the meantime.
func (s *liveSession) endIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 && time.Since(s.idleSince) >= s.idleTimeout() {
		s.end(endReason(reasonIdle, "it has run no command for its idleTimeoutSeconds"))
	}
}

var errShutDown = endReason(use.ReasonShutdown, "the operator was shut down")

// endWhenIdle ends the session, after the commands that it runs now.
func (s *liveSession) endWhenIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endsWhenIdle = true; s.running == 0 {
		s.end(errShutDown)
	}
}

// begin counts a command until finish, unless the session has ended.
func (s *liveSession) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	why := s.shell.Err()
	if why == nil && s.endsWhenIdle {
		why = errShutDown
	}
	if why != nil {
		return refusal.NotStarted(refusal.Gone, string(why.Reason), fmt.Sprintf(
			"session %s has ended: %s; create another session", s.object.Name, why.Message))
	}
	s.running++
	s.idle.Stop()
	return nil
}

func (s *liveSession) finish(outcome driver.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.idleSince = time.Now()
	if outcome != driver.NotStarted {
		s.count++
		s.lastUsed = s.idleSince
	}
	switch {
	case s.running > 0 || s.shell.Err() != nil:
	case s.endsWhenIdle:
		s.end(errShutDown)
	default:
		s.idle.Reset(s.idleTimeout())
	}
}

func (s *liveSession) audit(message string) {
	facts := s.info.Facts()
	if why := s.shell.Err(); why != nil {
		s.mu.Lock()
		facts = append(facts, "reason", why.Reason, "commands", s.count, "duration", time.Since(s.created))
		if s.deletedBy != "" {
			facts = append(facts, "deletedBy", audit.Exact(s.deletedBy))
		}
		s.mu.Unlock()
	}
	s.use.Audit(message, facts...)
}

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

// markEnded notes that a session has ended; it stays listed for a while.
func (s *store) markEnded(session *liveSession) {
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

func (s *store) forget(now time.Time) {
	for len(s.ended) > 0 && (len(s.ended) > maxEnded || now.Sub(s.ended[0].endedAt) >= endedMemory) {
		s.drop(s.ended[0])
		s.ended[0] = nil
		s.ended = s.ended[1:]
	}
}

// EndWhenIdle ends the sessions that run no command, and the others after what they
// run now. New sessions are refused from then on.
func (s *store) EndWhenIdle() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, session := range s.all("") {
		session.endWhenIdle()
	}
}
