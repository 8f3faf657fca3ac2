package poolset

import (
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/reach/dialing"
)

// measured counts what a meter was told.
type measured struct {
	mu    sync.Mutex
	count map[string]int
}

func (m *measured) add(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count[what]++
}

func (m *measured) Acquired(pool Ref, kind string, how connpool.How, _ time.Duration) {
	m.add(pool.Name + " " + kind + " " + how.String())
}

func (m *measured) Dialed(pool Ref, kind string, _ time.Duration, stages []dialing.Passage) {
	m.add(pool.Name + " " + kind + " dial")
	for _, stage := range stages {
		m.add(stage.Word())
	}
}

func TestTheMeterIsToldOfLeasesAndDialsByThePresentTypeOfTheTarget(t *testing.T) {
	withFixture(t, func(f *fixture) {
		told := &measured{count: map[string]int{}}
		f.set.Measure(told)
		acquire := func() {
			lease, err := f.set.Acquire(f.Context(), Request{Pool: ref("web").UID})
			if err != nil {
				f.Fatal(err)
			}
			lease.Release()
		}
		web := f.target("a", pool("web", minWarm(0)))
		f.ensure(web)
		acquire()
		acquire()
		web.Type, web.Identity = "other", "elsewhere"
		f.ensure(web)
		acquire()
		for what, want := range map[string]int{
			"web fake dialed": 1, "web fake warm": 1, "web fake dial": 1, "web other dialed": 1, "web other dial": 1,
			"session": 2,
		} {
			if told.count[what] != want {
				f.Errorf("%s: told %d times, want %d", what, told.count[what], want)
			}
		}
	})
}
