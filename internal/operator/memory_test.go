package operator

import (
	"context"
	"flag"
	"math"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/quota"
)

func TestTheMemoryIsThatOfGOMEMLIMIT(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "") // so that no control group counts
	if got := limitMemory(); got != 0 {
		t.Errorf("without a limit it is %d", got)
	}
	debug.SetMemoryLimit(460 << 20)
	if got := limitMemory(); got != 460<<20 {
		t.Errorf("it is %d", got)
	}
}

func TestWhatMayBeHeldFollowsFromTheMemoryUnlessAFlagSaysIt(t *testing.T) {
	const ofDeployment = (512 << 20) * 9 / 10
	tests := map[string]struct {
		memory                                int64
		arguments                             []string
		connections, streams, perUser         int
		perPool, forwards, forwardsPerUser    int
		planned, bodies, output, otherRequest int64
	}{
		"that of the Deployment": {ofDeployment, nil, 5000, 4000, 2000, 2000, 400, 100, ofDeployment, 30198988, 120795955, 30198988},
		"a quarter of it":        {ofDeployment / 4, nil, 1250, 1000, 500, 500, 100, 25, ofDeployment / 4, 7549747, 30198988, 7549747},
		"eight times it":         {ofDeployment * 8, nil, 40000, 32000, 16000, 16000, 3200, 800, ofDeployment * 8, 241591910, 966367640, 241591910},
		"too little for one":     {1 << 20, nil, 10, 8, 4, 4, 1, 1, 1 << 20, 1 << 16, 1 << 18, 1 << 16},
		"no limit, which is planned as 2 GiB": {
			0, nil, 22222, 17777, 8888, 8888, 1777, 444, 2 << 30, 128 << 20, 512 << 20, 128 << 20,
		},
		"flags say some": {
			ofDeployment,
			[]string{"--max-streams=7", "--max-connections-per-namespace=0"},
			0, 7, 2000, 2000, 400, 100,
			ofDeployment, 30198988, 120795955, 30198988,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			flags, o := flag.NewFlagSet("manager", flag.ContinueOnError), Options{}
			o.register(flags, tc.memory)
			if err := flags.Parse(tc.arguments); err != nil {
				t.Fatal(err)
			}
			l, parts := o.Live.Limits, o.Live.Limits.Parts()
			counts := []int{o.MaxConnections, l.Streams, l.StreamsPerUser, l.StreamsPerPool, l.Forwards, l.ForwardsPerUser}
			want := []int{tc.connections, tc.streams, tc.perUser, tc.perPool, tc.forwards, tc.forwardsPerUser}
			if !slices.Equal(counts, want) {
				t.Errorf("counts %d, want %d", counts, want)
			}
			bytes := []int64{l.Planned(), parts.Input, parts.Output, parts.Requests}
			if want := []int64{tc.planned, tc.bodies, tc.output, tc.otherRequest}; !slices.Equal(bytes, want) {
				t.Errorf("bytes %d, want %d", bytes, want)
			}
		})
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

func TestTheMemoryIsLookedAtOnlyWhileThereIsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outputs delivery.Deliveries
		var awaited atomic.Int64
		r := &relief{limit: math.MaxInt64, await: func(ctx context.Context) error {
			awaited.Add(1)
			return outputs.Await(ctx)
		}}
		go r.run(t.Context())
		time.Sleep(time.Hour)
		if n := awaited.Load(); n != 1 {
			t.Errorf("it was woken %d times in an hour without output", n-1)
		}
		output := outputs.Begin(quota.Owner{}, func() {})
		time.Sleep(time.Second)
		output.Close()
		if n, want := awaited.Load(), int64(time.Second/memoryPeriod); n < want {
			t.Errorf("it looked %d times in a second with output, want %d", n-1, want)
		}
	})
}
