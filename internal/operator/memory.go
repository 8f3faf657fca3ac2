package operator

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
)

// limitMemory limits what Go may use to 90 % of the limit of the process's cgroup, unless
// GOMEMLIMIT says something else. It returns the bytes; 0 means that there is no limit.
func limitMemory() int64 {
	limit, _ := memlimit.Set() // a cgroup that cannot be read is like none
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

// tried is the memory for which the defaults of counts were chosen: what Go may use of the
// 512 MiB of config/manager. test/hostile attacks the operator with these.
const tried = (512 << 20) / 10 * 9

// scaled returns the default of a count that is n in the memory that was tried.
func scaled(n int, memory int64) int {
	return max(1, int(float64(n)*float64(memory)/tried))
}

// held says for the log what the operator may hold at the same time, in counts and bytes.
func (o *Options) held() []any {
	counts, bytes := o.Live.Limits, o.Live.Limits.Parts()
	return []any{
		"limit", counts.Planned(), "connectionsOfANamespace", o.MaxConnections,
		"uses", counts.Streams, "usesOfAUser", counts.StreamsPerUser, "usesOfAPool", counts.StreamsPerPool,
		"forwardedConnections", counts.Forwards, "forwardedConnectionsOfAUser", counts.ForwardsPerUser,
		"bodyBytes", bytes.Input, "outputBytes", bytes.Output, "resultBytes", bytes.Results, "otherRequestBytes", bytes.Requests,
		"historyBytes", bytes.History,
	}
}

// giveBackPeriod is how often unused memory goes back to the system. That costs a garbage
// collection, which the runtime makes as often in a process at rest.
const giveBackPeriod = 2 * time.Minute

// giveBack gives the system back what a burst has left unused, such as the start of
// thousands of targets, until ctx ends. The runtime itself keeps what it would need for
// the next one.
func giveBack(ctx context.Context) {
	ticker := time.NewTicker(giveBackPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			debug.FreeOSMemory()
		}
	}
}

const (
	// memoryPeriod is how often the memory is looked at while there is output to cut.
	memoryPeriod = 20 * time.Millisecond
	// enough is the part of the limit that may be in use before unread output is cut.
	// Garbage, the kernel's buffers, and what comes until the next look, need the rest.
	enough = 0.5
	// step is the part of the limit by which the heap grows before it is worth a garbage
	// collection to find out how much of it is in use.
	step = 1.0 / 32
)

// relief cuts output that is not read when too much memory is in use. It does not wait
// for the runtime to collect garbage: a fast server fills the windows of a hundred
// streams before that.
type relief struct {
	limit   int64
	relieve func(bytes int64) (cut int)
	// await waits until there is output that relieve could cut. It fails when ctx ends.
	await func(ctx context.Context) error
	// collect collects garbage, and returns how many bytes are in use.
	collect func() int64
	log     logr.Logger
	// used is what was in use at the last collection, or less if the heap has shrunk.
	used int64
}

// run looks at the memory until ctx ends. An operator at rest would spend more on these looks
// than on a thousand connections, so it looks only while there is output.
func (r *relief) run(ctx context.Context) {
	for r.await(ctx) == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(memoryPeriod):
			r.look(measure("/memory/classes/heap/objects:bytes"))
		}
	}
}

func collectGarbage() int64 {
	runtime.GC()
	return measure("/gc/heap/live:bytes")
}

func measure(name string) int64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// look decides by the size of the heap, which includes garbage.
func (r *relief) look(heap int64) {
	r.used = min(r.used, heap)
	allowed := int64(enough * float64(r.limit))
	if heap <= allowed || heap < r.used+int64(step*float64(r.limit)) {
		return
	}
	if r.used = r.collect(); r.used <= allowed {
		return
	}
	if cut := r.relieve(r.used - allowed); cut > 0 {
		r.log.Info("cut output that clients do not read, to free memory", "outputs", cut, "bytesInUse", r.used, "limit", r.limit)
	}
}
