package drivertest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

// dialed are the stages that a driver may trace, in their order.
var dialed = []driver.Stage{
	driver.StageBanner, driver.StageKeyExchange, driver.StageHostKey,
	driver.StageTLS, driver.StageAuthentication, driver.StageSession,
}

// recorder records what a trace is told.
type recorder struct {
	mu     sync.Mutex
	stages []driver.Stage
	found  []string
}

func (r *recorder) pass(stage driver.Stage, found string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages, r.found = append(r.stages, stage), append(r.found, found)
}

func (r *recorder) passed() ([]driver.Stage, []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.stages), slices.Clone(r.found)
}

func (s suite) trace(t *testing.T) {
	t.Run("tells every stage once and in order, in plain words", s.traceOfSuccess)
	t.Run("does not tell of the stage that failed", s.traceOfFailure)
}

func (s suite) traceOfSuccess(t *testing.T) {
	var r recorder
	conn, err := s.dialTraced(t.Context(), r.pass)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // never fails
	stages, found := r.passed()
	if len(stages) == 0 || stages[len(stages)-1] != driver.StageSession {
		t.Fatalf("stages %q, want the last to be %q", stages, driver.StageSession)
	}
	order := func(stage driver.Stage) int { return slices.Index(dialed, stage) }
	for i, stage := range stages {
		if order(stage) < 0 || i > 0 && order(stage) <= order(stages[i-1]) {
			t.Errorf("stages %q, want some of %q in that order", stages, dialed)
		}
		if found[i] == "" || found[i] != driver.Sanitize(found[i]) {
			t.Errorf("%s: found %q, want plain words", stage, found[i])
		}
	}
	if err := conn.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if later, _ := r.passed(); len(later) != len(stages) {
		t.Errorf("stages %q, %d of them after the dial", later, len(later)-len(stages))
	}
}

// The dial is given up in its first stage, but it may win the race.
func (s suite) traceOfFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var r recorder
	conn, err := s.dialTraced(ctx, func(stage driver.Stage, found string) {
		r.pass(stage, found)
		cancel()
	})
	if err == nil {
		_ = conn.Close()
		return
	}
	wantClassified(t, err)
	if stages, _ := r.passed(); slices.Contains(stages, driver.AsError(err).Stage) {
		t.Errorf("stages %q passed, but the dial failed with: %v", stages, err)
	}
}
