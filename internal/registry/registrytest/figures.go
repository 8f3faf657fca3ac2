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
	mu              sync.Mutex
	lines, failures []string
}

// Meter lets the uses of a fixture tell their figures.
func (f *Figures) Meter(config *use.Config) { config.Meter = f }

// Failures returns the lines about uses that failed.
func (f *Figures) Failures() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.failures)
}

// Taken returns the lines about times.
func (f *Figures) Taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

func (f *Figures) notef(format string, facts ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, fmt.Sprintf(format, facts...))
}

// CommandStarted implements figures.Meter.
func (f *Figures) CommandStarted(pool poolset.Ref, kind string, took time.Duration) {
	f.notef("%s/%s %s: a command started after %s", pool.Namespace, pool.Name, kind, took)
}

// Answered implements figures.Meter.
func (f *Figures) Answered(pool poolset.Ref, kind string, took time.Duration) {
	f.notef("%s/%s %s: answered after %s", pool.Namespace, pool.Name, kind, took)
}

// UseFailed implements figures.Meter.
func (f *Figures) UseFailed(pool poolset.Ref, kind, reason, outcome string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf("%s/%s %s: %s, %s", pool.Namespace, pool.Name, kind, reason, outcome))
}
