package poolset

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

func TestWhatWasJustDeclaredGoesBeforeTheRestOfAStart(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(context.Context, driver.Endpoint) error {
			time.Sleep(time.Second)
			return nil
		})
		const old = 600 // dials for 20 s
		declared := func(name string, ago time.Duration) Pool {
			p := pool(name)
			p.Declared = time.Now().Add(-ago)
			return p
		}
		for i := range old {
			f.ensure(f.target(fmt.Sprint("t", i), declared("p", time.Hour)))
		}
		f.ensure(f.target("new", declared("q", time.Second)))
		f.ensure(f.target("another", declared("p", time.Hour)))
		sleep(2500 * time.Millisecond)
		if got := f.seen("new", "q"); got.Warm() != 1 {
			t.Errorf("the new pool has %d connections after two rounds of dials", got.Warm())
		}
		if got := f.seen("another", "p"); got.Warm() != 0 {
			t.Error("the target that came last has a connection already, so the dials did not wait for turns")
		}
		sleep(30 * time.Second)
		if got := f.seen("another", "p"); got.Warm() != 1 {
			t.Errorf("the last target has %d connections in the end", got.Warm())
		}
	})
}
