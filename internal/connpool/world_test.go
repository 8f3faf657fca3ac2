package connpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = errors.New("connection refused")
	errKilled  = errors.New("killed by the remote")
	errBadKey  = errors.New("permission denied")
)

// fakeConn is a connection to a fake target.
type fakeConn struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	target string
	// closing, when not nil, holds Close back until it is closed.
	closing chan struct{}

	mu     sync.Mutex
	closed bool
}

func newFakeConn(target string) *fakeConn {
	c := &fakeConn{target: target}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

func (c *fakeConn) Context() context.Context { return c.ctx }

func (c *fakeConn) Close() error {
	if c.closing != nil {
		<-c.closing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.cancel(context.Canceled)
	return nil
}

func (c *fakeConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// call is a dial or a probe that waits for the test to end it.
type call struct {
	target string
	conn   *fakeConn
	result chan error
	ctx    context.Context
}

func (c *call) fail(err error) { c.result <- err }

// tester is what a world needs of *testing.T or *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// world is a pool whose dials and probes the test decides one by one.
type world struct {
	t      tester
	pool   *Pool[*fakeConn]
	dials  chan *call
	probes chan *call

	mu       sync.Mutex
	notified int
	dropped  []error
}

// newWorld runs in a bubble. The pool is closed when the test ends. Where a test
// does not say how many callers may wait, 100 may; to say that none may, it says
// -1.
func newWorld(t tester, limits Limits) *world {
	limits.MaxPending = cmp.Or(limits.MaxPending, 100)
	w := &world{t: t, dials: make(chan *call, 10000), probes: make(chan *call, 10000)}
	w.mu.Lock() // Notify may come before New returns
	defer w.mu.Unlock()
	w.pool = New(Options[*fakeConn]{
		Dial:    w.dialer("old"),
		Probe:   w.probe,
		Judge:   func(err error) Verdict { return Verdict{Park: errors.Is(err, errBadKey)} },
		Dropped: w.drop,
		Notify:  w.notify,
		Random:  rand.New(rand.NewPCG(1, 2)).Float64,
		Limits:  limits,
	})
	t.Cleanup(func() { _ = w.pool.Close() })
	return w
}

func (w *world) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pool.Stats() // would deadlock under the pool's lock
	w.notified++
}

func (w *world) drop(_ *fakeConn, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped = append(w.dropped, cause)
}

// drops are the causes of the losses that the pool told of.
func (w *world) drops() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// transitions returns how often the pool notified since the last call.
func (w *world) transitions() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.notified
	w.notified = 0
	return n
}

func (w *world) dialer(target string) DialFunc[*fakeConn] {
	return func(ctx context.Context) (*fakeConn, error) {
		c := &call{target: target, conn: newFakeConn(target), result: make(chan error, 1), ctx: ctx}
		w.dials <- c
		select {
		case err := <-c.result:
			return c.conn, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *world) probe(ctx context.Context, conn *fakeConn) error {
	c := &call{target: conn.target, conn: conn, result: make(chan error, 1), ctx: ctx}
	w.probes <- c
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns the oldest call that runs; there must be one.
func (w *world) next(calls chan *call, what string) *call {
	w.t.Helper()
	synctest.Wait()
	for len(calls) > 0 {
		if c := <-calls; c.ctx.Err() == nil {
			return c
		}
	}
	w.t.Fatalf("no %s runs; pool: %s", what, w.summary())
	return nil
}

func (w *world) dial() *call      { w.t.Helper(); return w.next(w.dials, "dial") }
func (w *world) probeCall() *call { w.t.Helper(); return w.next(w.probes, "probe") }

// connect lets the next dial succeed.
func (w *world) connect() *fakeConn {
	w.t.Helper()
	c := w.dial()
	c.result <- nil
	synctest.Wait()
	return c.conn
}

// refuse lets the next dial fail.
func (w *world) refuse(err error) {
	w.t.Helper()
	w.dial().fail(err)
	synctest.Wait()
}

// running counts the dials that run and that the test has not seen.
func (w *world) running() int {
	synctest.Wait()
	n := 0
	for range len(w.dials) {
		c := <-w.dials
		if c.ctx.Err() == nil {
			n++
		}
		w.dials <- c
	}
	return n
}

// quiet checks that no dial runs that the test has not seen.
func (w *world) quiet() {
	w.t.Helper()
	if n := w.running(); n > 0 {
		w.t.Fatalf("%d dials more than expected; pool: %s", n, w.summary())
	}
}

// attempt is an Acquire under way.
type attempt struct {
	w      *world
	cancel context.CancelFunc
	done   chan struct{}
	lease  *Lease[*fakeConn]
	err    error
}

// ask starts an Acquire.
func (w *world) ask() *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{w: w, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer cancel()
		a.lease, a.err = w.pool.Acquire(ctx)
	}()
	synctest.Wait()
	return a
}

// waits reports whether the Acquire has not returned.
func (a *attempt) waits() bool {
	synctest.Wait()
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// got returns the lease that the Acquire must have by now.
func (a *attempt) got() *Lease[*fakeConn] {
	a.w.t.Helper()
	if a.waits() {
		a.w.t.Fatalf("Acquire still waits; pool: %s", a.w.summary())
	}
	if a.err != nil {
		a.w.t.Fatalf("Acquire: %v; pool: %s", a.err, a.w.summary())
	}
	return a.lease
}

// failed returns the error that the Acquire must have by now.
func (a *attempt) failed() error {
	a.w.t.Helper()
	if a.waits() {
		a.w.t.Fatalf("Acquire still waits; pool: %s", a.w.summary())
	}
	if a.err == nil {
		a.w.t.Fatalf("Acquire succeeded; pool: %s", a.w.summary())
	}
	return a.err
}

// lease acquires what must be free.
func (w *world) lease() *Lease[*fakeConn] {
	w.t.Helper()
	return w.ask().got()
}

// summary says in words how the pool is, leaving out what is zero.
func (w *world) summary() string {
	synctest.Wait()
	s := w.pool.Stats()
	var words []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{s.Idle, "idle"},
		{s.InUse, "in use"},
		{s.Dialing, "dialing"},
		{s.Draining, "draining"},
		{s.Leases, "leases"},
		{s.Pending, "pending"},
	} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if len(words) == 0 {
		return "empty"
	}
	return strings.Join(words, ", ")
}

func (w *world) expect(want string) {
	w.t.Helper()
	if got := w.summary(); got != want {
		w.t.Fatalf("pool: %s; want: %s", got, want)
	}
}

func (w *world) expectClosed(c *fakeConn, want bool) {
	w.t.Helper()
	synctest.Wait()
	if c.isClosed() != want {
		w.t.Fatalf("connection closed: %v, want %v; pool: %s", c.isClosed(), want, w.summary())
	}
}

// background starts an act and returns a channel that closes when it ends.
func background(act func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		act()
	}()
	return done
}

// ended reports whether a background act has ended.
func ended(done <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// after lets virtual time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// bubbles runs each case as a subtest in virtual time.
func bubbles(t *testing.T, cases map[string]func(t *testing.T)) {
	for name, run := range cases {
		t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
	}
}

// quietDuringDial checks that exactly one dial runs.
func (w *world) quietDuringDial() {
	w.t.Helper()
	if n := w.running(); n != 1 {
		w.t.Fatalf("%d dials run, want 1", n)
	}
}

// open lets a Close that was held back return.
func (w *world) open(c *fakeConn) {
	select {
	case <-c.closing:
	default:
		close(c.closing)
	}
}
