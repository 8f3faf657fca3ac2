package poolset

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a set and the network that it dials into, in virtual time.
type fixture struct {
	*testing.T
	fake   *drivertest.Fake
	budget *dialbudget.Budget
	set    *Set
	// news counts what subscribers were told.
	news atomic.Int64
}

// withFixture runs a test in virtual time, closes the set and fails on leaks.
func withFixture(t *testing.T, test func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, fake: new(drivertest.Fake)}
		f.budget = dialbudget.New(30, 3, 6)
		f.set = New(directly, f.budget)
		f.set.Subscribe(func(Ref) { f.news.Add(1) })
		defer func() {
			closed(f.set, 0)
			if live := len(f.fake.Live()); live != 0 {
				t.Errorf("%d connections live after Close, want none", live)
			}
		}()
		test(f)
	})
}

// closed closes a set within the patience.
func closed(set *Set, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	set.Close(ctx)
}

// sleep lets virtual time pass and waits until everything has reacted to it.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func ref(name string) Ref { return Ref{UID: name + "-uid", Namespace: "default", Name: name} }

// pool is a pool with the defaults of the API.
func pool(name string, changes ...func(*Policy)) Pool {
	p := Policy{
		Limits: connpool.Limits{
			MinWarm: 1, Max: 4, LeasesPerConn: 8, MaxPending: 100, AcquireTimeout: 10 * time.Second,
			MaxAge: time.Hour, MaxIdle: 5 * time.Minute, DrainTimeout: 5 * time.Minute,
			ProbePeriod: time.Minute, ProbeTimeout: 5 * time.Second, ProbeFailures: 3,
		},
		KeepaliveInterval: 15 * time.Second, KeepaliveTimeout: 5 * time.Second,
		FailureThreshold: 3, SuccessThreshold: 2,
	}
	for _, change := range changes {
		change(&p)
	}
	return Pool{Ref: ref(name), Policy: p}
}

func minWarm(n int) func(*Policy) { return func(p *Policy) { p.MinWarm = n } }

func paused(p *Policy) { p.Paused = true }

// target is a target whose host has its name, with credentials of version v1.
func (f *fixture) target(name string, pools ...Pool) Target {
	return Target{Ref: ref(name), Type: "fake", Access: f.access(name, "v1", nil), Pools: pools}
}

func (f *fixture) access(host, version string, via *JumpHost) Access {
	a := Access{
		Driver:   f.fake,
		Endpoint: driver.Endpoint{Address: host + ":22", Credentials: map[string][]byte{"key": []byte(version)}},
		Identity: host, Version: version, JumpHost: via,
	}
	if via != nil {
		a.Driver, a.Identity = tunneled{f.fake}, host+" via "+via.Identity
	}
	return a
}

// rotated is the target with other credentials.
func (t Target) rotated(version string) Target {
	t.Version = version
	t.Endpoint.Credentials = map[string][]byte{"key": []byte(version)}
	return t
}

func keyOf(e driver.Endpoint) string { return string(e.Credentials["key"]) }

// refuse makes the matching dials fail.
func (f *fixture) refuse(reason driver.Reason, which func(driver.Endpoint) bool) {
	f.fake.OnDial(func(_ context.Context, e driver.Endpoint) error {
		if which(e) {
			return &driver.Error{Reason: reason, Stage: driver.StageConnect, Message: "refused by the test"}
		}
		return nil
	})
}

func everything(driver.Endpoint) bool { return true }

func host(name string) func(driver.Endpoint) bool {
	return func(e driver.Endpoint) bool { return e.Address == name+":22" }
}

func key(version string) func(driver.Endpoint) bool {
	return func(e driver.Endpoint) bool { return keyOf(e) == version }
}

// ensure applies the targets and waits until nothing more happens.
func (f *fixture) ensure(targets ...Target) {
	f.Helper()
	for _, target := range targets {
		if err := f.ensured(target); err != nil {
			f.Fatalf("Ensure %s: %v", target.Name, err)
		}
	}
	synctest.Wait()
}

// ensured applies a target and returns how that ended, once its credentials are
// prepared.
func (f *fixture) ensured(target Target) error {
	err := f.set.Ensure(target)
	if isPreparing(err) {
		synctest.Wait()
		return f.set.Ensure(target)
	}
	return err
}

// dials returns how many dials so far match.
func (f *fixture) dials(which func(driver.Endpoint) bool) (n int) {
	for _, e := range f.fake.Dials() {
		if which(e) {
			n++
		}
	}
	return n
}

// live returns the live connections that match.
func (f *fixture) live(which func(driver.Endpoint) bool) (conns []*drivertest.FakeConn) {
	for _, c := range f.fake.Live() {
		if which(c.Endpoint) {
			conns = append(conns, c)
		}
	}
	return conns
}

func (f *fixture) wantDials(want int, which func(driver.Endpoint) bool) {
	f.Helper()
	if got := f.dials(which); got != want {
		f.Errorf("%d dials, want %d", got, want)
	}
}

func (f *fixture) wantLive(want int, which func(driver.Endpoint) bool) {
	f.Helper()
	if got := len(f.live(which)); got != want {
		f.Errorf("%d connections live, want %d", got, want)
	}
}

// seen returns what is true of a target in a pool.
func (f *fixture) seen(target, pool string) PoolObservation {
	f.Helper()
	o, ok := f.set.Observe(target + "-uid")
	if !ok {
		f.Fatalf("target %s is not observed", target)
	}
	for _, p := range o.Pools {
		if p.Pool.Name == pool {
			return p
		}
	}
	f.Fatalf("pool %s of target %s is not observed", pool, target)
	return PoolObservation{}
}

func (f *fixture) wantHealth(target, pool string, want HealthState) {
	f.Helper()
	if got := f.seen(target, pool); got.Health != want {
		f.Errorf("health of %s is %v (%v), want %v", target, got.Health, got.Err, want)
	}
}

// request asks for a target by name; none when empty.
func request(pool, target string) Request {
	r := Request{Pool: pool + "-uid"}
	if target != "" {
		r.Target = target + "-uid"
	}
	return r
}

func (f *fixture) acquire(r Request) Lease {
	f.Helper()
	lease, err := f.set.Acquire(f.Context(), r)
	if err != nil {
		f.Fatalf("Acquire %v: %v", r, err)
	}
	return lease
}

// exec runs a command that does nothing. Its error is that of Acquire or ExecOn.
func (f *fixture) exec(r Request) (Execution, error) {
	return execIn(f.Context(), f.set, r, driver.Command{Argv: []string{"true"}}, driver.Streams{})
}

// execIn acquires a lease and runs a command on it.
func execIn(ctx context.Context, set *Set, r Request, command driver.Command, streams driver.Streams) (Execution, error) {
	lease, err := set.Acquire(ctx, r)
	if err != nil {
		return Execution{}, err
	}
	return set.ExecOn(ctx, lease, r, command, streams)
}

// directly is the operator's own network: a stream that swallows everything.
func directly(context.Context, string, string) (net.Conn, error) {
	return sink(context.Background()), nil
}

// sink is a stream that swallows everything until either side, or what carries
// it, ends.
func sink(carrier context.Context) net.Conn {
	near, far := net.Pipe()
	stop := context.AfterFunc(carrier, func() { _ = far.Close() })
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, far)
		_ = far.Close()
	}()
	return near
}

// tunneled is the fake driver for hosts behind a jump host: its connections
// live on a stream of the endpoint's transport, and end with it.
type tunneled struct{ *drivertest.Fake }

// Prepare implements driver.Driver.
func (d tunneled) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	inner, err := d.Fake.Prepare(endpoint)
	return tunnelDialer{inner, endpoint}, err
}

type tunnelDialer struct {
	driver.Dialer
	endpoint driver.Endpoint
}

// With implements driver.Dialer.
func (d tunnelDialer) With(change func(*driver.Endpoint)) driver.Dialer {
	change(&d.endpoint)
	d.Dialer = d.Dialer.With(change)
	return d
}

// Dial implements driver.Dialer.
func (d tunnelDialer) Dial(ctx context.Context) (driver.Conn, error) {
	stream, err := d.endpoint.Dial(ctx, "tcp", d.endpoint.Address)
	if err != nil {
		return nil, err
	}
	made, err := d.Dialer.Dial(ctx)
	if err != nil {
		_ = stream.Close()
		return nil, err
	}
	context.AfterFunc(made.Context(), func() { _ = stream.Close() })
	go func() {
		_, _ = io.Copy(io.Discard, stream)
		made.(*drivertest.FakeConn).Kill(nil)
	}()
	return made, nil
}
