package delivery

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/registry/quota"
)

// The outputs that are cut are those of the namespace that holds most, and there those
// that wait for longest. What is read is never cut, and nothing is cut twice.
func TestWhatIsCutWhenMemoryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Deliveries
		var cut []string
		deliver := func(namespace, name string) *Delivery {
			time.Sleep(time.Second)
			return g.Begin(quota.Owner{Namespace: namespace, User: name}, func() { cut = append(cut, name) })
		}
		// The first to wait belongs to a namespace that holds little.
		deliver("team", "ann").Offered()
		deliver("tenant", "robot 1").Offered()
		slow := deliver("tenant", "robot 2")
		slow.Offered()
		deliver("tenant", "robot 3").Offered()
		deliver("tenant", "robot 4").Close()
		deliver("tenant", "robot 5").Offered()
		slow.Taken()
		if n := g.Relieve(2*unreadBytes + 1); n != 3 {
			t.Errorf("%d are cut", n)
		}
		if want := []string{"robot 1", "robot 3"}; !slices.Equal(cut[:2], want) {
			t.Errorf("cut are %v, want first %v", cut, want)
		}
		cut = nil
		if n := g.Relieve(1 << 40); n != 1 || slices.Contains(cut, "robot 2") || slices.Contains(cut, "robot 4") {
			t.Errorf("%d are cut: %v", n, cut)
		}
		if n := g.Relieve(0); n != 0 {
			t.Errorf("%d are cut without need", n)
		}
	})
}

func TestAwaitReturnsAsSoonAsThereIsADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Deliveries
		ctx, cancel := context.WithCancel(t.Context())
		const waiters = 3
		returned := make(chan error, waiters)
		wait := func() {
			for range waiters {
				go func() { returned <- all.Await(ctx) }()
			}
			synctest.Wait()
		}
		wait()
		if len(returned) > 0 {
			t.Error("it has returned although there is no delivery")
		}
		first := all.Begin(quota.Owner{}, func() {})
		for range waiters {
			if err := <-returned; err != nil {
				t.Error(err)
			}
		}
		if err := all.Await(ctx); err != nil {
			t.Errorf("while there is one: %v", err)
		}
		first.Close()
		wait()
		cancel()
		for range waiters {
			if err := <-returned; !errors.Is(err, context.Canceled) {
				t.Errorf("when the context ends: %v", err)
			}
		}
	})
}
