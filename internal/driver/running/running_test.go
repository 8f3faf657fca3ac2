package running

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type fake struct {
	ended chan struct{}
	end   sync.Once
}

func newCommand() *fake { return &fake{ended: make(chan struct{})} }

func (c *fake) signal(context.Context) { c.end.Do(func() { close(c.ended) }) }

func TestEndWaitsForEveryCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set
		slow, quick := newCommand(), newCommand()
		defer set.Add(slow.ended, func(ctx context.Context) {
			time.Sleep(time.Second)
			slow.signal(ctx)
		})()
		defer set.Add(quick.ended, quick.signal)()
		begin := time.Now()
		set.End(t.Context())
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %s, want 1s", took)
		}
	})
}

func TestEndDoesNotWaitLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set
		deaf := newCommand()
		defer set.Add(deaf.ended, func(context.Context) { <-deaf.ended })()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		set.End(ctx)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %s, want 1s", took)
		}
		deaf.signal(t.Context())
	})
}

func TestOnlyRunningCommandsAreSignaled(t *testing.T) {
	var set Set
	set.End(t.Context())
	set.Add(newCommand().ended, func(context.Context) { t.Error("a command that was removed was signaled") })()
	set.End(t.Context())
}
