package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/session"
)

// heldSession is a session that has a lease, until it ends.
type heldSession struct {
	// call is the one that created it.
	*call

	object  live.Session // but for what changes
	owner   user.Info
	created time.Time
	env     map[string]string // until the shell has it

	shell *session.Shell
	lease poolset.Lease
	held  held
	// leave ends the use.
	leave func()
	// ctx ends when the session does, after the reason is known.
	ctx    context.Context //nolint:containedctx // of its life, which no call spans
	cancel context.CancelFunc

	// open and endedAt are guarded by sessionStore.mu.
	open    bool
	endedAt time.Time

	// mu guards what follows; nothing waits under it.
	mu       sync.Mutex
	running  int // commands, those that wait for their turn included
	count    int64
	lastUsed time.Time
	// rested is since when none runs.
	rested  time.Time
	leaving bool
	idle    *time.Timer
}

func (h *heldSession) name() types.NamespacedName {
	return types.NamespacedName{Namespace: h.object.Namespace, Name: h.object.Name}
}

// describe says in the words of the API what the session is doing.
func (h *heldSession) describe() *live.Session {
	session := h.object.DeepCopy()
	status := &session.Status
	h.mu.Lock()
	defer h.mu.Unlock()
	status.State, status.CommandCount = live.SessionReady, h.count
	if !h.lastUsed.IsZero() {
		status.LastUsedTime = &metav1.Time{Time: h.lastUsed}
	}
	why := h.shell.Err()
	switch {
	case why != nil:
		status.State, status.Reason, status.Message = live.SessionEnded, string(why.Reason), why.Message+"; create another session"
	case h.running > 0:
		status.State = live.SessionBusy
	}
	return session
}

// ended is why a session ends.
func ended(reason driver.Reason, message string) *driver.Error {
	return &driver.Error{Reason: reason, Stage: driver.StageSession, Message: message}
}

// end ends the session for a reason.
func (h *heldSession) end(why *driver.Error) {
	h.shell.End(why)
	h.cancel()
}

// tend watches over the session until it has ended, in the background.
func (h *heldSession) tend() {
	h.mu.Lock()
	h.rested = time.Now()
	h.idle = time.AfterFunc(h.idleTimeout(), h.endIfIdle)
	h.mu.Unlock()
	go func() {
		h.wait()
		h.Pools.Return(h.lease, h.shell.Failure())
		h.shells.retire(h)
		h.auditSession("session ended", h)
		h.leave()
	}()
	if h.shells.opened(h) {
		h.leaveSoon()
	}
}

// wait returns when the shell has ended, and ends it when its time is over.
func (h *heldSession) wait() {
	defer h.idle.Stop()
	defer h.cancel()
	ctx, stop := h.watch(h.ctx, h.permission)
	defer stop()
	expiry := time.NewTimer(seconds(h.object.Spec.TTLSeconds))
	defer expiry.Stop()
	select {
	case <-h.shell.Done():
	case <-expiry.C:
		h.end(ended(reasonExpired, "its ttlSeconds are over"))
	case <-ctx.Done():
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errRevoked):
			h.end(ended(reasonRevoked, "the permission of its creator was revoked; ask for the verb create on the pool's exec again"))
		case errors.Is(cause, errShutdown):
			h.end(errLeaving)
		}
	}
	<-h.shell.Done()
}

func (h *heldSession) idleTimeout() time.Duration { return seconds(h.object.Spec.IdleTimeoutSeconds) }

// endIfIdle ends the session unless a command came in between.
func (h *heldSession) endIfIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == 0 && time.Since(h.rested) >= h.idleTimeout() {
		h.end(ended(reasonIdle, "it has run no command for its idleTimeoutSeconds"))
	}
}

// errLeaving is why sessions end that nobody else has ended.
var errLeaving = ended(reasonShutdown, "the operator was shut down")

// leaveSoon ends the session, after the command that runs now.
func (h *heldSession) leaveSoon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leaving = true; h.running == 0 {
		h.end(errLeaving)
	}
}

// begin counts a command, unless the session has ended. Without an error, finish
// must be called.
func (h *heldSession) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	why := h.shell.Err()
	if why == nil && h.leaving {
		why = errLeaving
	}
	if why != nil {
		return refusedBeforeStart(gone, string(why.Reason), fmt.Sprintf(
			"session %s has ended: %s; create another session", h.object.Name, why.Message))
	}
	h.running++
	h.idle.Stop()
	return nil
}

func (h *heldSession) finish(outcome live.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running--
	h.rested = time.Now()
	if outcome != live.OutcomeNotStarted {
		h.count++
		h.lastUsed = h.rested
	}
	switch {
	case h.running > 0 || h.shell.Err() != nil:
	case h.leaving:
		h.end(errLeaving)
	default:
		h.idle.Reset(h.idleTimeout())
	}
}

// auditSession notes the beginning or the end of a session.
func (c *call) auditSession(what string, h *heldSession) {
	line := append(c.subject(), "connection", h.held.connection, "acquired", h.held.acquired, "wait", h.held.wait)
	if why := h.shell.Err(); why != nil {
		h.mu.Lock()
		line = append(line, "reason", why.Reason, "commands", h.count, "duration", time.Since(h.created))
		h.mu.Unlock()
	}
	c.Audit.Info(what, line...)
}
