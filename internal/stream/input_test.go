package stream

import (
	"runtime"
	"testing"
)

func TestInputThatComesFasterThanItIsReadLeavesNoGarbage(t *testing.T) {
	const rounds, round = 200, inboxLimit
	b := newInbox()
	p := make([]byte, maxMessage)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		for range round / maxMessage {
			_, _ = b.Write(p)
		}
		for range round / maxMessage {
			_, _ = b.Read(p)
		}
	}
	runtime.ReadMemStats(&after)
	// With the race detector, a pool forgets a part of what it gets.
	if garbage := after.TotalAlloc - before.TotalAlloc; garbage > rounds*round {
		t.Errorf("%d KiB of buffers for %d KiB of input", garbage>>10, rounds*round>>10)
	}
	if b.unread != &b.own || b.own.Cap() > inboxIdle {
		t.Error("an empty inbox keeps a large buffer")
	}
}
