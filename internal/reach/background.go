package reach

import (
	"context"
	"sync"
)

// Background is the work that no caller waits for, such as proofs, drains and
// checks. Its methods are safe for concurrent use.
type Background struct {
	ctx  context.Context //nolint:containedctx // the life of the work
	cut  context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	shut bool
}

// NewBackground returns a Background that runs nothing yet.
func NewBackground() *Background {
	b := &Background{}
	b.ctx, b.cut = context.WithCancel(context.Background())
	return b
}

// Go runs work on a goroutine of its own, with a context that Cut ends. After
// Shut it does nothing. It reports whether the work runs.
func (b *Background) Go(work func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return false
	}
	b.work.Go(func() { work(b.ctx) })
	return true
}

// Shut takes no more work.
func (b *Background) Shut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
}

// Cut ends the context of the work.
func (b *Background) Cut() { b.cut() }

// Wait returns when all work has ended. Call Shut first.
func (b *Background) Wait() { b.work.Wait() }
