package connpool

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The rest of the table of states and operations: connections on their way out.

func TestDraining(t *testing.T) {
	// a connection with two leases, replaced by an idle one
	drainingPool := func(t *testing.T) (w *world, a, b *Lease[*fakeConn], conn *fakeConn) {
		w = newWorld(t, Limits{MinWarm: 1, LeasesPerConn: 2, DrainTimeout: time.Minute})
		conn = w.connect()
		a, b = w.lease(), w.lease()
		w.pool.Replace(w.dialer("new"))
		w.connect()
		w.expect("1 idle, 1 draining, 2 leases")
		return w, a, b, conn
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire does not lease it, even when a slot is free": func(t *testing.T) {
			w, a, _, _ := drainingPool(t)
			a.Release()
			if w.lease().Conn().target != "new" {
				t.Error("a draining connection was leased")
			}
		},
		"Release of one of two leases keeps it": func(t *testing.T) {
			w, a, _, conn := drainingPool(t)
			a.Release()
			w.expectClosed(conn, false)
			w.expect("1 idle, 1 draining, 1 leases")
		},
		"Release of the last lease closes it": func(t *testing.T) {
			w, a, b, conn := drainingPool(t)
			a.Release()
			b.Release()
			w.expectClosed(conn, true)
			w.expect("1 idle")
		},
		"Discard of the last lease closes it": func(t *testing.T) {
			w, a, b, conn := drainingPool(t)
			a.Discard()
			w.expectClosed(conn, false)
			b.Discard()
			w.expectClosed(conn, true)
			w.expect("1 idle")
		},
		"Narrow of the last lease closes it and teaches nothing about the new target": func(t *testing.T) {
			w, a, b, conn := drainingPool(t)
			a.Narrow()
			b.Narrow()
			w.expectClosed(conn, true)
			if learned := w.pool.Stats().Cap; learned != 0 {
				t.Errorf("cap %d, want none", learned)
			}
		},
		"Invalidate leaves it": func(t *testing.T) {
			w, _, _, conn := drainingPool(t)
			w.pool.Replace(w.dialer("newer"))
			w.pool.Rotate(w.dialer("newest"))
			w.expectClosed(conn, false)
		},
		"Recycle does not find it": func(t *testing.T) {
			w, _, _, conn := drainingPool(t)
			if w.pool.Recycle(w.pool.Conns()[0].ID) {
				t.Error("a draining connection was recycled")
			}
			w.expectClosed(conn, false)
		},
		"the deadline of Replace cuts it": func(t *testing.T) {
			w, a, _, conn := drainingPool(t)
			after(time.Minute - 1)
			w.expectClosed(conn, false)
			after(1)
			w.expectClosed(conn, true)
			a.Release()
			w.expect("1 idle, 1 leases")
		},
		"the deadline of Drain cuts it": func(t *testing.T) {
			w, _, _, conn := drainingPool(t)
			start := time.Now()
			if err := w.pool.Drain(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: %v, want deadline exceeded", err)
			}
			if took := time.Since(start); took != time.Minute {
				t.Errorf("Drain took %s, want 1m", took)
			}
			w.expectClosed(conn, true)
		},
		"the end of Drain's context cuts it": func(t *testing.T) {
			w, _, _, conn := drainingPool(t)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := w.pool.Drain(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Drain: %v, want canceled", err)
			}
			w.expectClosed(conn, true)
		},
		"Close cuts it": func(t *testing.T) {
			w, _, _, conn := drainingPool(t)
			_ = w.pool.Close()
			w.expectClosed(conn, true)
		},
		"its death closes it": func(t *testing.T) {
			w, a, _, conn := drainingPool(t)
			conn.cancel(errKilled)
			w.expectClosed(conn, true)
			a.Release()
			w.expect("1 idle, 1 leases")
			w.quiet()
		},
	})
}

func TestClosing(t *testing.T) {
	// a pool of one connection whose Close hangs after it was discarded
	closingPool := func(t *testing.T) (*world, *fakeConn) {
		w := newWorld(t, Limits{MinWarm: 1, MaxPending: 1, DrainTimeout: time.Minute})
		dial := w.dial()
		gate := make(chan struct{})
		dial.conn.closing = gate
		dial.result <- nil
		w.lease().Discard()
		w.expect("1 draining")
		t.Cleanup(func() { w.open(dial.conn) })
		return w, dial.conn
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire does not lease it": func(t *testing.T) {
			w, _ := closingPool(t)
			if !w.ask().waits() {
				t.Error("a closing connection was leased")
			}
		},
		"its slot is free only after Close returned": func(t *testing.T) {
			w, conn := closingPool(t)
			w.quiet()
			w.open(conn)
			w.expect("1 dialing")
		},
		"Acquire that waits for its slot in vain says that the pool is exhausted": func(t *testing.T) {
			w, _ := closingPool(t)
			a := w.ask()
			after(10 * time.Second)
			if err := a.failed(); !errors.Is(err, ErrAcquireTimeout) {
				t.Errorf("error %v, want acquire timeout", err)
			}
		},
		"Invalidate leaves it": func(t *testing.T) {
			w, _ := closingPool(t)
			w.pool.Replace(w.dialer("new"))
			w.expect("1 draining")
			w.pool.Rotate(w.dialer("newer"))
			w.pool.RecycleAll()
			w.expect("1 draining")
		},
		"its death changes nothing": func(t *testing.T) {
			w, conn := closingPool(t)
			conn.cancel(errKilled)
			w.expect("1 draining")
		},
		"Drain waits for it": func(t *testing.T) {
			w, conn := closingPool(t)
			var err error
			done := background(func() { err = w.pool.Drain(t.Context()) })
			if ended(done) {
				t.Fatal("Drain returned before the connection was closed")
			}
			w.open(conn)
			<-done
			if err != nil {
				t.Errorf("Drain: %v, want nil: no lease was cut", err)
			}
		},
		"Close waits for it": func(t *testing.T) {
			w, conn := closingPool(t)
			done := background(func() { _ = w.pool.Close() })
			if ended(done) {
				t.Fatal("Close returned before the connection was closed")
			}
			w.open(conn)
			<-done
		},
	})
}

func TestClosed(t *testing.T) {
	closed := func(t *testing.T) *world {
		w := newWorld(t, Limits{MinWarm: 1})
		w.connect()
		_ = w.pool.Close()
		return w
	}
	bubbles(t, map[string]func(*testing.T){
		"Acquire is refused": func(t *testing.T) {
			if err := closed(t).ask().failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want closed", err)
			}
		},
		"nothing brings it back": func(t *testing.T) {
			w := closed(t)
			w.pool.SetLimits(Limits{MinWarm: 3, Max: 3})
			w.pool.Rotate(w.dialer("new"))
			w.pool.Replace(w.dialer("new"))
			w.pool.Retry()
			w.pool.RecycleAll()
			w.quiet()
			w.expect("empty")
			if err := w.ask().failed(); !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want closed", err)
			}
		},
		"Close and Drain return again": func(t *testing.T) {
			w := closed(t)
			_ = w.pool.Close()
			if err := w.pool.Drain(t.Context()); err != nil {
				t.Errorf("Drain: %v", err)
			}
		},
	})
}
