package connpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// dialers are callers of a budget and what became of them.
type dialers struct {
	t      *testing.T
	budget *Budget
	dones  map[string]func()
	turns  chan turn
}

// turn is that a caller was admitted.
type turn struct {
	name string
	done func()
}

// admit starts callers whose names begin with their host, as in "a1".
func (d *dialers) admit(bastion string, names ...string) {
	for _, name := range names {
		go func() {
			done, err := d.budget.Admit(d.t.Context(), name[:1], bastion)
			if err != nil {
				return
			}
			d.turns <- turn{name, done}
		}()
		synctest.Wait()
	}
}

// admitted returns who was admitted since the last call, in order.
func (d *dialers) admitted() []string {
	synctest.Wait()
	var names []string
	for len(d.turns) > 0 {
		turn := <-d.turns
		d.dones[turn.name] = turn.done
		names = append(names, turn.name)
	}
	return names
}

func (d *dialers) expect(want ...string) {
	d.t.Helper()
	if got := d.admitted(); !slices.Equal(got, want) {
		d.t.Fatalf("admitted %v, want %v", got, want)
	}
}

func newDialers(t *testing.T, process, perHost, perBastion int) *dialers {
	return &dialers{t: t, budget: NewBudget(process, perHost, perBastion), dones: map[string]func(){}, turns: make(chan turn, 1000)}
}

func TestBudget(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a host takes so many dials at once, in order": func(t *testing.T) {
			d := newDialers(t, 30, 2, 6)
			d.admit("", "a1", "a2", "a3", "a4")
			d.expect("a1", "a2")
			d.dones["a2"]()
			d.expect("a3")
			d.dones["a1"]()
			d.expect("a4")
		},
		"a host's waiters do not block another host": func(t *testing.T) {
			d := newDialers(t, 30, 1, 6)
			d.admit("", "a1", "a2", "a3", "b1")
			d.expect("a1", "b1")
		},
		"hosts take turns when the process is the bound": func(t *testing.T) {
			d := newDialers(t, 1, 1, 6)
			d.admit("", "a1", "a2", "a3", "b1", "b2", "c1")
			var order []string
			for range 6 {
				name := d.admitted()[0]
				order = append(order, name)
				d.dones[name]()
			}
			if want := []string{"a1", "a2", "b1", "c1", "a3", "b2"}; !slices.Equal(order, want) {
				t.Errorf("order %v, want %v", order, want)
			}
		},
		"a bastion bounds the hosts behind it, and no others": func(t *testing.T) {
			d := newDialers(t, 30, 3, 2)
			d.admit("bastion", "a1", "b1", "c1")
			d.admit("", "d1")
			d.expect("a1", "b1", "d1")
			d.dones["a1"]()
			d.expect("c1")
		},
		"giving back twice frees one place": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1", "a2", "a3")
			d.expect("a1")
			d.dones["a1"]()
			d.dones["a1"]()
			d.expect("a2")
		},
		"who gives up leaves the queue": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1")
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error)
			go func() {
				_, err := d.budget.Admit(ctx, "a", "")
				result <- err
			}()
			synctest.Wait()
			d.admit("", "a2")
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
			d.expect("a1")
			d.dones["a1"]()
			d.expect("a2")
		},
		"nothing is remembered of those who left": func(t *testing.T) {
			d := newDialers(t, 3, 2, 2)
			for i := range 100 {
				done, err := d.budget.Admit(t.Context(), fmt.Sprint("host", i), fmt.Sprint("bastion", i))
				if err != nil {
					t.Fatal(err)
				}
				done()
			}
			b := d.budget
			if n := len(b.hosts) + len(b.bastions) + len(b.queues) + b.turns.len + b.running; n != 0 {
				t.Errorf("%d entries left", n)
			}
		},
	})
}
