package operator

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/go-logr/logr"
)

// memoryLimit returns how many bytes Go may use: GOMEMLIMIT, or what Run has set instead,
// which is 90% of the limit of the process's cgroup. 0 means that there is none.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

const (
	// memoryPeriod is how often the memory is looked at.
	memoryPeriod = 100 * time.Millisecond
	// enough is the part of the limit that may be in use before unread output is cut.
	// Garbage, and what comes until the next look, need the rest.
	enough = 0.6
)

// relief cuts output that is not read when too much memory is in use.
type relief struct {
	limit   int64
	relieve func(bytes int64) (cut int)
	log     logr.Logger
	// cycle is the garbage collection after which it has cut. Only the next one can tell
	// what that has freed.
	cycle uint64
}

// run looks at the memory until ctx ends.
func (r *relief) run(ctx context.Context) {
	ticker := time.NewTicker(memoryPeriod)
	defer ticker.Stop()
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		r.look(int64(samples[0].Value.Uint64()), samples[1].Value.Uint64())
	}
}

// look decides by how much was in use after a garbage collection.
func (r *relief) look(used int64, cycle uint64) {
	excess := used - int64(enough*float64(r.limit))
	if excess <= 0 || cycle == r.cycle {
		return
	}
	r.cycle = cycle
	if cut := r.relieve(excess); cut > 0 {
		r.log.Info("cut output that clients do not read, to free memory", "outputs", cut, "bytesInUse", used, "limit", r.limit)
	}
}
