package connpool

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/dialbudget"
)

// TestStress lets everything happen at once, for the race detector: callers,
// faults and changes race each other and, in the end, Drain.
func TestStress(t *testing.T) {
	for range 3 {
		synctest.Test(t, stress)
	}
}

func stress(t *testing.T) {
	remote := &flakyRemote{}
	budget := dialbudget.New(4, 3, 2)
	dial := func(ctx context.Context) (*fakeConn, error) {
		done, err := budget.Admit(ctx, dialbudget.Route{Host: "host"})
		if err != nil {
			return nil, err
		}
		conn, err := remote.dial(ctx)
		done(err)
		return conn, err
	}
	pool := New(Options[*fakeConn]{
		Dial:   dial,
		Probe:  func(ctx context.Context, _ *fakeConn) error { return pause(ctx, 100*time.Millisecond) },
		Notify: func() {},
		Limits: stressLimits(),
	})
	ctx, stop := context.WithCancel(t.Context())
	var users sync.WaitGroup
	for range 32 {
		users.Go(func() { use(ctx, pool) })
	}
	for _, disturb := range []func(){
		func() { pool.Rotate(dial) },
		func() { pool.Replace(dial) },
		func() { pool.SetLimits(stressLimits()) },
		func() { pool.RecycleAll(); pool.Retry() },
		func() { remote.kill() },
		func() { pool.Stats(); pool.Conns() },
	} {
		users.Go(func() {
			for pause(ctx, 2*time.Second) == nil {
				disturb()
			}
		})
	}
	time.Sleep(time.Minute)
	if err := pool.audit(); err != nil {
		t.Error(err)
	}
	if pool.Stats().Uses == 0 {
		t.Error("no caller used the pool")
	}
	if err := pool.Drain(t.Context()); err != nil {
		t.Errorf("Drain: %v", err)
	}
	stop()
	users.Wait()
	if open := remote.open(); open > 0 {
		t.Errorf("%d connections are open after Drain", open)
	}
	if s := pool.Stats(); s.Leases+s.Pending+s.Dialing+s.Draining > 0 {
		t.Errorf("something is left: %+v", s)
	}
}

func stressLimits() Limits {
	return Limits{
		MinWarm: rand.IntN(3), Max: 1 + rand.IntN(4), LeasesPerConn: 1 + rand.IntN(4), MaxPending: 20,
		AcquireTimeout: time.Second, MaxAge: 5 * time.Second, MaxIdle: time.Second, MaxUses: 50,
		ProbePeriod: time.Second, ProbeTimeout: 90 * time.Millisecond, ProbeFailures: 2, DrainTimeout: time.Minute,
	}
}

// use leases connections until ctx ends.
func use(ctx context.Context, pool *Pool[*fakeConn]) {
	for pause(ctx, 20*time.Millisecond) == nil {
		l, err := pool.Acquire(ctx)
		if err != nil {
			continue
		}
		_ = pause(ctx, 50*time.Millisecond)
		switch rand.IntN(20) {
		case 0:
			l.Discard()
		case 1:
			l.Narrow()
		default:
			l.Release()
		}
	}
}

// pause waits for up to d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(rand.N(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flakyRemote accepts most dials.
type flakyRemote struct {
	mu    sync.Mutex
	conns []*fakeConn
}

func (r *flakyRemote) dial(ctx context.Context) (*fakeConn, error) {
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return nil, err
	}
	if rand.IntN(5) == 0 {
		return nil, errRefused
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := newFakeConn("flaky")
	r.conns = append(r.conns, c)
	return c, nil
}

func (r *flakyRemote) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) > 0 {
		r.conns[rand.IntN(len(r.conns))].cancel(errKilled)
	}
}

func (r *flakyRemote) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.conns {
		if !c.isClosed() {
			n++
		}
	}
	return n
}
