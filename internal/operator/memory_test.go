package operator

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestTheMemoryForRequestsFollowsGOMEMLIMIT(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	if got := memoryLimit(); got != 0 {
		t.Errorf("without a limit it is %d", got)
	}
	debug.SetMemoryLimit(460 << 20)
	if got := memoryLimit(); got != 460<<20 {
		t.Errorf("it is %d", got)
	}
}

// Only a garbage collection tells what an earlier cut has freed.
func TestUnreadOutputIsCutOnceForEachCollection(t *testing.T) {
	var asked []int64
	r := &relief{limit: 1000, relieve: func(bytes int64) int {
		asked = append(asked, bytes)
		return 1
	}}
	for _, look := range []struct {
		used  int64
		cycle uint64
		want  int
	}{
		{600, 1, 0}, {650, 2, 1}, {650, 2, 1}, {590, 3, 1}, {700, 4, 2}, {700, 5, 3},
	} {
		if r.look(look.used, look.cycle); len(asked) != look.want {
			t.Errorf("after %d bytes in cycle %d it was asked for %v", look.used, look.cycle, asked)
		}
	}
	if asked[0] != 50 || asked[1] != 100 {
		t.Errorf("it was asked for %v", asked)
	}
}
