package running

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type command struct {
	ended chan struct{}
	end   sync.Once
}

func newCommand() *command { return &command{ended: make(chan struct{})} }

func (c *command) Ended() <-chan struct{} { return c.ended }

func (c *command) signal() { c.end.Do(func() { close(c.ended) }) }

func TestEndWaitsForEveryCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set[*command]
		slow, quick := newCommand(), newCommand()
		defer set.Add(slow)()
		defer set.Add(quick)()
		begin := time.Now()
		set.End(t.Context(), func(c *command) {
			if c == slow {
				time.Sleep(time.Second)
			}
			c.signal()
		})
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %s, want 1s", took)
		}
	})
}

func TestEndDoesNotWaitLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set Set[*command]
		deaf := newCommand()
		defer set.Add(deaf)()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		set.End(ctx, func(*command) { <-deaf.ended })
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %s, want 1s", took)
		}
		deaf.signal()
	})
}

func TestOnlyRunningCommandsAreSignaled(t *testing.T) {
	var set Set[*command]
	set.End(t.Context(), func(*command) { t.Error("a command of an empty set was signaled") })
	set.Add(newCommand())()
	set.End(t.Context(), func(*command) { t.Error("a command that was removed was signaled") })
}
