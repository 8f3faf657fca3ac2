package registrytest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/use"
)

// Figures is a meter that notes in words what it is told.
type Figures struct {
	mu    sync.Mutex
	lines []string
}

// Meter lets the uses of a fixture tell their figures.
func (f *Figures) Meter(config *use.Config) { config.Meter = f }

// Taken returns all lines so far.
func (f *Figures) Taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

func (f *Figures) note(format string, facts ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, fmt.Sprintf(format, facts...))
}

// CommandStarted implements stopwatch.Meter.
func (f *Figures) CommandStarted(pool poolset.Ref, kind string, took time.Duration) {
	f.note("%s/%s %s: a command started after %s", pool.Namespace, pool.Name, kind, took)
}
