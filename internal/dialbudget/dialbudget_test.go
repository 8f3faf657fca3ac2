package dialbudget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// dialers are the callers of a budget and their turns.
type dialers struct {
	t      *testing.T
	budget *Budget
	dones  map[string]func(error)
	turns  chan turn
	// namespace is that of the next callers.
	namespace string
}

// turn is the admission of a caller.
type turn struct {
	name string
	done func(error)
}

// admit starts callers whose names begin with their host, as in "a1".
func (d *dialers) admit(jumpHost string, names ...string) {
	for _, name := range names {
		go func() {
			done, err := d.budget.Admit(d.t.Context(), Route{d.namespace, name[:1], jumpHost})
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

func newDialers(t *testing.T, process, perHost, perJumpHost int) *dialers {
	return &dialers{t: t, budget: New(process, perHost, perJumpHost), dones: map[string]func(error){}, turns: make(chan turn, 1000)}
}

func TestBudget(t *testing.T) {
	bubbles(t, map[string]func(*testing.T){
		"a host takes so many dials at once, in order": func(t *testing.T) {
			d := newDialers(t, 30, 2, 6)
			d.admit("", "a1", "a2", "a3", "a4")
			d.expect("a1", "a2")
			d.dones["a2"](nil)
			d.expect("a3")
			d.dones["a1"](nil)
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
				d.dones[name](nil)
			}
			if want := []string{"a1", "a2", "b1", "c1", "a3", "b2"}; !slices.Equal(order, want) {
				t.Errorf("order %v, want %v", order, want)
			}
		},
		"what a use waits for comes before what is made ahead, also if the use comes later": func(t *testing.T) {
			d := newDialers(t, 1, 1, 6)
			d.admit("", "a1", "b1", "c1", "d1")
			d.expect("a1")
			d.budget.Hurry(Route{Host: "d"})
			d.budget.Hurry(Route{Host: "nothing waits here"})
			go func() {
				done, err := d.budget.Admit(Wanted(t.Context()), Route{Host: "e"})
				if err == nil {
					d.turns <- turn{"e1", done}
				}
			}()
			synctest.Wait()
			for _, next := range []string{"d1", "e1", "b1", "c1"} {
				for name, done := range d.dones {
					done(nil)
					delete(d.dones, name)
				}
				d.expect(next)
			}
		},
		"what was just declared comes after what a use waits for and before what is made ahead": func(t *testing.T) {
			d := newDialers(t, 1, 1, 6)
			d.admit("", "a1", "b1", "c1", "d1")
			d.expect("a1")
			go func() {
				done, err := d.budget.Admit(Declared(t.Context()), Route{Host: "n"})
				if err == nil {
					d.turns <- turn{"n1", done}
				}
			}()
			synctest.Wait()
			d.budget.Hurry(Route{Host: "d"})
			for _, next := range []string{"d1", "n1", "b1", "c1"} {
				for name, done := range d.dones {
					done(nil)
					delete(d.dones, name)
				}
				d.expect(next)
			}
		},
		"a host that fails comes last, although a use waits for it": func(t *testing.T) {
			d := newDialers(t, 1, 1, 6)
			d.admit("", "a1")
			d.expect("a1")
			d.dones["a1"](errors.New("refused"))
			d.admit("", "b1", "a2", "c1")
			d.expect("b1")
			d.budget.Hurry(Route{Host: "a"})
			d.dones["b1"](nil)
			d.expect("c1")
		},
		"a jump host bounds the hosts behind it, and no others": func(t *testing.T) {
			d := newDialers(t, 30, 3, 2)
			d.admit("jump host", "a1", "b1", "c1")
			d.admit("", "d1")
			d.expect("a1", "b1", "d1")
			d.dones["a1"](nil)
			d.expect("c1")
		},
		"one namespace cannot take all places, and another has its share of them": func(t *testing.T) {
			d := newDialers(t, 4, 4, 4)
			d.namespace = "tenant"
			d.admit("", "a1", "b1", "c1", "d1", "e1", "f1")
			d.expect("a1", "b1", "c1", "d1")
			d.namespace = "other"
			d.admit("", "m1", "n1", "o1")
			d.expect("m1", "n1")
			d.namespace = "third"
			d.admit("", "x1", "y1")
			d.expect("x1")
			d.dones["a1"](nil) // the namespace with the fewest dials is the next
			d.expect("y1")
		},
		"one namespace cannot take all places of a host that others use, too": func(t *testing.T) {
			d := newDialers(t, 30, 3, 6)
			d.namespace = "tenant"
			d.admit("", "a1", "a2", "a3", "a4")
			d.expect("a1", "a2", "a3")
			d.namespace = "other"
			d.admit("", "a5", "a6", "a7")
			d.expect("a5", "a6")
		},
		"the failing hosts of one namespace leave places for those of another": func(t *testing.T) {
			d := newDialers(t, 6, 1, 1)
			d.namespace = "tenant"
			d.fail("a1", "b1", "c1", "d1", "e1")
			d.admit("", "a2", "b2", "c2", "d2", "e2")
			d.expect("a2", "b2", "c2", "d2")
			d.namespace = "other"
			d.fail("m1")
			d.admit("", "m2")
			d.expect("m2")
		},
		"giving back twice frees one place": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1", "a2", "a3")
			d.expect("a1")
			d.dones["a1"](nil)
			d.dones["a1"](nil)
			d.expect("a2")
		},
		"who gives up leaves the queue": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1")
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error)
			go func() {
				_, err := d.budget.Admit(ctx, Route{Host: "a"})
				result <- err
			}()
			synctest.Wait()
			d.admit("", "a2")
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
			d.expect("a1")
			d.dones["a1"](nil)
			d.expect("a2")
		},
		"nothing is remembered of those who left": func(t *testing.T) {
			d := newDialers(t, 3, 2, 2)
			for i := range 100 {
				done, err := d.budget.Admit(t.Context(), Route{fmt.Sprint("namespace", i), fmt.Sprint("host", i), fmt.Sprint("jump host", i)})
				if err != nil {
					t.Fatal(err)
				}
				done(nil)
			}
			b := d.budget
			n := len(b.hosts) + len(b.jumpHosts) + len(b.queues) + len(b.failed) + len(b.failing) + len(b.failingTurns) + len(b.running)
			for _, of := range b.healthyTurns {
				n += len(of)
			}
			if n != 0 {
				t.Errorf("%d entries left", n)
			}
		},
		"a route that failed comes after all others, until it succeeds": func(t *testing.T) {
			d := newDialers(t, 2, 2, 2)
			d.fail("a1")
			d.admit("", "c1", "c2", "a2", "b1")
			d.expect("c1", "c2")
			d.dones["c1"](nil)
			d.expect("b1")
			d.dones["b1"](nil)
			d.expect("a2")
			d.dones["a2"](nil)
			d.admit("", "b2", "a3", "b3")
			d.expect("b2")
			d.dones["c2"](nil)
			d.expect("a3")
		},
		"those who wait learn with the others that their route failed, or is good again": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1", "a2", "b1", "b2")
			d.expect("a1")
			d.dones["a1"](errRefused)
			d.expect("b1")
			d.dones["b1"](nil)
			d.expect("b2")
			d.dones["b2"](nil)
			d.expect("a2")
			d.admit("", "a3", "a4", "b3")
			d.dones["a2"](nil)
			d.expect("b3")
			d.dones["b3"](nil)
			d.expect("a3")
		},
		"routes that failed leave a third of the places free": func(t *testing.T) {
			d := newDialers(t, 6, 1, 1)
			d.fail("a1", "b1", "c1", "d1", "e1")
			d.admit("", "a2", "b2", "c2", "d2", "e2")
			d.expect("a2", "b2", "c2", "d2")
			d.admit("", "f1", "g1", "h1")
			d.expect("f1", "g1")
			d.dones["a2"](errRefused)
			d.expect("h1")
			d.dones["f1"](nil)
			d.expect("e2")
		},
		"a budget of one place admits a route that failed": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.fail("a1")
			d.admit("", "a2")
			d.expect("a2")
		},
		"a dial that was canceled tells nothing": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.admit("", "a1", "a2", "b1")
			d.expect("a1")
			d.dones["a1"](fmt.Errorf("dial: %w", context.Canceled))
			d.expect("a2")
		},
		"a route that is no longer dialed is forgotten, failed or not": func(t *testing.T) {
			d := newDialers(t, 1, 1, 1)
			d.fail("a1", "b1")
			after(failureMemory + time.Second)
			d.fail("c1")
			if b := d.budget; len(b.failed) != 1 || b.byAge.Len != 1 {
				t.Errorf("%d streaks and %d ages, want only the new one", len(b.failed), b.byAge.Len)
			}
		},
		"a thousand hosts that do not answer keep no good one waiting": func(t *testing.T) {
			b := New(30, 3, 6)
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 1000 {
				go tarpit(ctx, b, fmt.Sprint("bad", i))
			}
			after(10 * time.Minute)
			began := time.Now()
			done, err := b.Admit(ctx, Route{Host: "good"})
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > 0 {
				t.Errorf("the good host waited %s for its turn", waited)
			}
			done(nil)
			cancel()
			synctest.Wait()
		},
	})
}

// fail lets each caller dial at once, and fail.
func (d *dialers) fail(names ...string) {
	d.t.Helper()
	for _, name := range names {
		d.admit("", name)
		d.expect(name)
		d.dones[name](errRefused)
	}
}

// tarpit dials a host that takes long not to answer, again and again.
func tarpit(ctx context.Context, b *Budget, host string) {
	for {
		done, err := b.Admit(ctx, Route{Host: host})
		if err != nil {
			return
		}
		err = pause(ctx, 10*time.Second)
		done(cmp.Or(err, errRefused))
		if pause(ctx, 30*time.Second) != nil { // the mean backoff
			return
		}
	}
}

var errRefused = errors.New("connection refused")

// bubbles runs each case as a subtest in virtual time.
func bubbles(t *testing.T, cases map[string]func(t *testing.T)) {
	for name, run := range cases {
		t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
	}
}

// after lets virtual time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pause waits, in virtual time, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
