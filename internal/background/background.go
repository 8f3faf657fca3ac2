// Package background runs work that no caller waits for, and ends it in order.
package background

import (
	"context"
	"sync"
)

// Work is work that no caller waits for, such as proofs, drains and checks. Its methods are safe for concurrent use.
type Work struct {
	ctx  context.Context //nolint:containedctx // the life of the work
	cut  context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	shut bool
}

// New returns a Work that runs nothing yet.
func New() *Work {
	w := &Work{}
	w.ctx, w.cut = context.WithCancel(context.Background())
	return w
}

// Go runs work on a goroutine of its own, with a context that Cut ends. After
// Shut it does nothing. It reports whether the work runs.
func (w *Work) Go(work func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut {
		return false
	}
	w.work.Go(func() { work(w.ctx) })
	return true
}

// Shut takes no more work.
func (w *Work) Shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
}

// Cut ends the context of the work.
func (w *Work) Cut() { w.cut() }

// Wait returns when all work has ended. Call Shut first.
func (w *Work) Wait() { w.work.Wait() }
