package operator

import (
	"math"
	"runtime/debug"
	"slices"
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

// Only a garbage collection tells what is in use, so there is one each time the heap has
// grown by a thirty-second of the limit, and none else.
func TestUnreadOutputIsCutAsFastAsTheHeapGrows(t *testing.T) {
	var asked []int64
	collections, inUse := 0, int64(0)
	r := &relief{
		limit:   1600,
		collect: func() int64 { collections++; return inUse },
		relieve: func(bytes int64) int { asked = append(asked, bytes); return 1 },
	}
	for _, look := range []struct {
		name              string
		heap, inUse       int64
		collections, cuts int
	}{
		{"half of the limit is enough", 800, 800, 0, 0},
		{"most of it is garbage", 900, 400, 1, 0},
		{"it has grown again, and is in use", 950, 950, 2, 1},
		{"what was cut is not collected yet", 990, 850, 2, 1},
		{"it grows although something was cut", 1050, 1050, 3, 2},
		{"it has shrunk", 600, 600, 3, 2},
		{"a small growth above a small heap", 801, 801, 4, 3},
	} {
		inUse = look.inUse
		if r.look(look.heap); collections != look.collections || len(asked) != look.cuts {
			t.Errorf("%s: %d collections and %d cuts, want %d and %d", look.name, collections, len(asked), look.collections, look.cuts)
		}
	}
	if want := []int64{150, 250, 1}; !slices.Equal(asked, want) {
		t.Errorf("it was asked for %v, want %v", asked, want)
	}
}
