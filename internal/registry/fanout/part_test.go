package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// record is what became of targets.
type record struct {
	mu      sync.Mutex
	ran     []string
	skipped map[string]error
	counted int
}

func (r *record) part(parallelism, room int) *Part {
	r.skipped = map[string]error{}
	p := &Part{Parallelism: parallelism, Skip: func(target string, because error) { r.skipped[target] = because }}
	for i := range 6 {
		p.Targets = append(p.Targets, fmt.Sprint("web-", i))
	}
	p.More = func() (end func(), ok bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.counted == room {
			return nil, false
		}
		r.counted++
		return func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.counted--
		}, true
	}
	p.Run = func(target string) bool {
		r.mu.Lock()
		r.ran = append(r.ran, target)
		r.mu.Unlock()
		if target == "web-1" { // which fails, a little before the others end
			time.Sleep(time.Second - time.Millisecond)
			return false
		}
		time.Sleep(time.Second)
		return true
	}
	return p
}

func TestAPartRunsOnAsManyTargetsAsThereIsRoomFor(t *testing.T) {
	for name, test := range map[string]struct {
		parallelism, room int
		takes             time.Duration
	}{
		"all at once":              {parallelism: 6, room: 5, takes: time.Second},
		"two at a time":            {parallelism: 2, room: 5, takes: 3 * time.Second},
		"one has no need of room":  {parallelism: 6, room: 0, takes: 6 * time.Second},
		"what there is is used up": {parallelism: 6, room: 2, takes: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := new(record)
				p, began := r.part(test.parallelism, test.room), time.Now()
				p.Do(t.Context(), func() {})
				if took := time.Since(began); took.Round(100*time.Millisecond) != test.takes || len(r.ran) != 6 || r.counted != 0 || len(r.skipped) > 0 {
					t.Errorf("it took %v, ran on %v, skipped %v, and %d are counted", took, r.ran, r.skipped, r.counted)
				}
			})
		})
	}
}

func TestAPartThatIsStoppedSkipsTheRest(t *testing.T) {
	gone := errors.New("gone")
	for name, test := range map[string]struct {
		change func(*Part)
		want   error
	}{
		"by a failure":   {func(p *Part) { p.FailFast = true }, ErrFailFast},
		"by its context": {func(*Part) {}, gone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := new(record)
				p := r.part(2, 5)
				test.change(p)
				ctx, end := context.WithCancelCause(t.Context())
				defer end(nil)
				time.AfterFunc(time.Second/2, func() {
					if !p.FailFast {
						end(gone)
					}
				})
				p.Do(ctx, func() {})
				slices.Sort(r.ran)
				if !slices.Equal(r.ran, []string{"web-0", "web-1"}) || len(r.skipped) != 4 || !errors.Is(r.skipped["web-5"], test.want) {
					t.Errorf("it ran on %v, and skipped %v", r.ran, r.skipped)
				}
			})
		})
	}
}

func TestAPanicOnATargetIsOneOfTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(record)
		p := r.part(2, 5)
		run := p.Run
		p.Run = func(target string) bool {
			if target == "web-1" {
				panic("broken")
			}
			return run(target)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		defer func() {
			if said := fmt.Sprint(recover()); !strings.HasPrefix(said, "broken\n") || r.counted != 0 || ctx.Err() == nil {
				t.Errorf("it panicked with %q; %d are counted", said, r.counted)
			}
		}()
		p.Do(ctx, cancel)
	})
}
