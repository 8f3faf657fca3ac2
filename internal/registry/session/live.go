package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	live "github.com/connpool/connpool/api/live/v1alpha1"
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

// liveSession is a session with its lease.
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

	// mu guards what follows; nothing waits under it.
	mu           sync.Mutex
	running      int // commands, including those that wait for their turn
	count        int64
	lastUsed     time.Time
	idleSince    time.Time
	endsWhenIdle bool
	idle         *time.Timer
}

func (s *liveSession) name() types.NamespacedName {
	return types.NamespacedName{Namespace: s.object.Namespace, Name: s.object.Name}
}

// describe returns the session in the words of the API.
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

func (s *liveSession) end(why *driver.Error) {
	s.shell.End(why)
	s.cancel()
}

// supervise waits for the end of the session in the background, gives the lease back and
// calls retire.
func (s *liveSession) supervise(retire func()) {
	s.mu.Lock()
	s.idleSince = time.Now()
	s.idle = time.AfterFunc(s.idleTimeout(), s.endIfIdle)
	s.mu.Unlock()
	go func() {
		s.wait()
		s.use.Gate.Config.Pools.Return(s.lease, s.shell.Failure())
		retire()
		s.audit("session ended")
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
				"the permission of its creator was revoked; ask for the verb create on the pool's exec again"))
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
		s.mu.Unlock()
	}
	s.use.Audit(message, facts...)
}
