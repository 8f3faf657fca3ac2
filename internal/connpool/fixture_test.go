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
	// errThrottled is that of a server that asks for a minute.
	errThrottled = errors.New("not allowed at this time")
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

// tester is what a fixture needs of *testing.T or *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// fixture is a pool whose dials and probes the test decides one by one.
type fixture struct {
	t      tester
	pool   *Pool[*fakeConn]
	dials  chan *call
	probes chan *call
	// stubborn dials go on after their context has ended.
	stubborn bool

	mu       sync.Mutex
	notified int
	dropped  []error
}

// newFixture runs in a bubble. The pool is closed when the test ends. A MaxPending
// of 0 means 100 here; a test in which no caller may wait says -1.
func newFixture(t tester, limits Limits) *fixture {
	limits.MaxPending = cmp.Or(limits.MaxPending, 100)
	fix := &fixture{t: t, dials: make(chan *call, 10000), probes: make(chan *call, 10000)}
	fix.mu.Lock() // Notify may come before New returns
	defer fix.mu.Unlock()
	fix.pool = New(Options[*fakeConn]{
		Dial:    fix.dialer("old"),
		Probe:   fix.probe,
		Judge:   judge,
		Dropped: fix.drop,
		Notify:  fix.notify,
		Random:  rand.New(rand.NewPCG(1, 2)).Float64,
		Limits:  limits,
	})
	t.Cleanup(func() { _ = fix.pool.Close() })
	return fix
}

func judge(err error) Verdict {
	switch {
	case errors.Is(err, errBadKey):
		return Verdict{Park: true}
	case errors.Is(err, errThrottled):
		return Verdict{RetryAfter: time.Minute}
	}
	return Verdict{}
}

func (fix *fixture) notify() {
	fix.mu.Lock()
	defer fix.mu.Unlock()
	fix.pool.Stats() // would deadlock under the pool's lock
	fix.notified++
}

func (fix *fixture) drop(_ *fakeConn, cause error) {
	fix.mu.Lock()
	defer fix.mu.Unlock()
	fix.dropped = append(fix.dropped, cause)
}

// drops returns the causes of the losses that Dropped was told of.
func (fix *fixture) drops() []error {
	fix.mu.Lock()
	defer fix.mu.Unlock()
	return fix.dropped
}

// transitions returns how often the pool notified since the last call.
func (fix *fixture) transitions() int {
	synctest.Wait()
	fix.mu.Lock()
	defer fix.mu.Unlock()
	n := fix.notified
	fix.notified = 0
	return n
}

func (fix *fixture) dialer(target string) DialFunc[*fakeConn] {
	return func(ctx context.Context) (*fakeConn, error) {
		c := &call{target: target, conn: newFakeConn(target), result: make(chan error, 1), ctx: ctx}
		fix.dials <- c
		if fix.stubborn {
			return c.conn, <-c.result
		}
		select {
		case err := <-c.result:
			return c.conn, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (fix *fixture) probe(ctx context.Context, conn *fakeConn) error {
	c := &call{target: conn.target, conn: conn, result: make(chan error, 1), ctx: ctx}
	fix.probes <- c
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns the oldest call that runs; there must be one.
func (fix *fixture) next(calls chan *call, what string) *call {
	fix.t.Helper()
	synctest.Wait()
	for len(calls) > 0 {
		if c := <-calls; c.ctx.Err() == nil {
			return c
		}
	}
	fix.t.Fatalf("no %s runs; pool: %s", what, fix.summary())
	return nil
}

func (fix *fixture) dial() *call      { fix.t.Helper(); return fix.next(fix.dials, "dial") }
func (fix *fixture) probeCall() *call { fix.t.Helper(); return fix.next(fix.probes, "probe") }

// connect lets the next dial succeed.
func (fix *fixture) connect() *fakeConn {
	fix.t.Helper()
	c := fix.dial()
	c.result <- nil
	synctest.Wait()
	return c.conn
}

// refuse lets the next dial fail.
func (fix *fixture) refuse(err error) {
	fix.t.Helper()
	fix.dial().fail(err)
	synctest.Wait()
}

// running counts the dials that run and that the test has not seen.
func (fix *fixture) running() int {
	synctest.Wait()
	n := 0
	for range len(fix.dials) {
		c := <-fix.dials
		if c.ctx.Err() == nil {
			n++
		}
		fix.dials <- c
	}
	return n
}

// quiet checks that no dial runs that the test has not seen.
func (fix *fixture) quiet() {
	fix.t.Helper()
	if n := fix.running(); n > 0 {
		fix.t.Fatalf("%d dials more than expected; pool: %s", n, fix.summary())
	}
}

// attempt is an Acquire under way.
type attempt struct {
	fix    *fixture
	cancel context.CancelFunc
	done   chan struct{}
	lease  *Lease[*fakeConn]
	err    error
}

// ask starts an Acquire.
func (fix *fixture) ask() *attempt { return fix.begin(fix.pool.Acquire) }

// insist starts an Insist.
func (fix *fixture) insist() *attempt { return fix.insistAs("") }

func (fix *fixture) insistAs(user string) *attempt {
	return fix.begin(func(ctx context.Context) (*Lease[*fakeConn], error) { return fix.pool.InsistAs(ctx, user) })
}

func (fix *fixture) begin(acquire func(context.Context) (*Lease[*fakeConn], error)) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{fix: fix, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer cancel()
		a.lease, a.err = acquire(ctx)
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
	a.fix.t.Helper()
	if a.waits() {
		a.fix.t.Fatalf("Acquire still waits; pool: %s", a.fix.summary())
	}
	if a.err != nil {
		a.fix.t.Fatalf("Acquire: %v; pool: %s", a.err, a.fix.summary())
	}
	return a.lease
}

// failed returns the error that the Acquire must have by now.
func (a *attempt) failed() error {
	a.fix.t.Helper()
	if a.waits() {
		a.fix.t.Fatalf("Acquire still waits; pool: %s", a.fix.summary())
	}
	if a.err == nil {
		a.fix.t.Fatalf("Acquire succeeded; pool: %s", a.fix.summary())
	}
	return a.err
}

// lease acquires what must be free.
func (fix *fixture) lease() *Lease[*fakeConn] {
	fix.t.Helper()
	return fix.ask().got()
}

// summary describes the pool in words, without what is zero.
func (fix *fixture) summary() string {
	synctest.Wait()
	s := fix.pool.Stats()
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

func (fix *fixture) expect(want string) {
	fix.t.Helper()
	if got := fix.summary(); got != want {
		fix.t.Fatalf("pool: %s; want: %s", got, want)
	}
}

func (fix *fixture) expectClosed(c *fakeConn, want bool) {
	fix.t.Helper()
	synctest.Wait()
	if c.isClosed() != want {
		fix.t.Fatalf("connection closed: %v, want %v; pool: %s", c.isClosed(), want, fix.summary())
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
func (fix *fixture) quietDuringDial() {
	fix.t.Helper()
	if n := fix.running(); n != 1 {
		fix.t.Fatalf("%d dials run, want 1", n)
	}
}

// open lets a Close that was held back return.
func (fix *fixture) open(c *fakeConn) {
	select {
	case <-c.closing:
	default:
		close(c.closing)
	}
}
