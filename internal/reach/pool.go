package reach

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/dialing"
)

const (
	// noTimeout leaves the bound of a dial to the Dialer: the waits for the breaker
	// and for the budget are not the target's fault.
	noTimeout = time.Duration(math.MaxInt64)
	// refusedBackoff bounds the backoff of a host that is up and whose port refuses
	// connections: it is cheap to ask again, and its service may only be restarting.
	refusedBackoff = 8 * time.Second
	// proofTimeout bounds the proof that a connection is still good.
	proofTimeout = 5 * time.Second
)

// Conn is a connection that knows how it was made.
type Conn struct {
	driver.Conn
	// Dialer made the connection, at the time Made.
	Dialer *Dialer
	Made   time.Time
	// Examined is when the health command last ran on the connection; at first it
	// is Made. Only the probes of the connection use it, which do not overlap.
	Examined time.Time

	// Dialing says when the dial passed which stage.
	Dialing *dialing.Log

	pool *Pool
	// refusing is since when a jump host has refused every stream on the connection,
	// in nanoseconds; 0 if the last one was opened.
	refusing atomic.Int64
}

// Lease is the right to use one connection of a Pool.
type Lease = connpool.Lease[*Conn]

// PoolOptions are what a Pool is made of. Dialer, which makes the first connections,
// Dialed and Changed are required. The functions may be called before NewPool returns.
type PoolOptions struct {
	Dialer *Dialer
	// Limits of the pool; DialTimeout is ignored.
	Limits connpool.Limits
	// Probe, Dropped, Notify and Loaded are as in connpool.Options.
	Probe   func(context.Context, *Conn) error
	Dropped func(*Conn, error)
	Notify  func()
	Loaded  func(connpool.Load)
	// Declared is when a user made the pool or its target.
	Declared time.Time
	// Dialed is told the result of each dial that the pool still waits for. What was made
	// means nothing after an error.
	Dialed func(by *Dialer, made *Conn, err error)
	// Changed is told of a Change before the new dialer dials. It is called with the
	// pool's lock held, so it must not call Follow or ServerVersion.
	Changed func(Change)
}

// Change is how a pool changes from one dialer to another.
type Change int

const (
	// Rotated means that the host and the account are the same, and earlier
	// connections serve until the new dialer has proved itself.
	Rotated Change = iota
	// Distrusted means that the server is not the pinned one, and earlier
	// connections are given up.
	Distrusted
	// Moved means that another host or account is meant, and earlier connections are
	// given up.
	Moved
)

// Pool is the pooled connections to one target, which follow its access: a
// connpool.Pool whose dial functions are Dialers. Point it at another version
// with Follow, not with Rotate or Replace.
type Pool struct {
	*connpool.Pool[*Conn]

	background *background.Work
	dialed     func(*Dialer, *Conn, error)
	changed    func(Change)
	declared   time.Time
	dialer     atomic.Pointer[Dialer]

	// mu guards the rest, and is held while the dialer changes. The connpool.Pool may
	// be called under it.
	mu sync.Mutex
	// trusted are the pins that the newest connection was made with, serverVersion is
	// what its server calls itself.
	trusted, serverVersion string
}

// NewPool starts a pool, which does in the background what no caller waits for.
func NewPool(work *background.Work, opts PoolOptions) *Pool {
	p := &Pool{background: work, dialed: opts.Dialed, changed: opts.Changed, declared: opts.Declared}
	p.dialer.Store(opts.Dialer)
	opts.Limits.DialTimeout = noTimeout
	// Dials begin at once and end by taking the lock, so they see p complete.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Pool = connpool.New(connpool.Options[*Conn]{
		Dial: p.dialBy(opts.Dialer), Probe: opts.Probe, Judge: retryVerdict,
		MayInsist: func() bool { return p.Version().breaker.MayInsist(connpool.InsistGap) },
		Dropped:   opts.Dropped, Notify: opts.Notify, Waits: func() { p.Version().hurry() }, Loaded: opts.Loaded, Limits: opts.Limits,
	})
	return p
}

// Dialer returns the newest dialer.
func (p *Pool) Dialer() *Dialer { return p.dialer.Load() }

// Version is the newest dialer's.
func (p *Pool) Version() *Version { return p.Dialer().version }

// Retry dials at once what is wanted, whatever has failed by the newest version.
func (p *Pool) Retry() {
	p.Version().breaker.Forgive()
	p.Pool.Retry()
}

// Warning is that of the dialer.
func (p *Pool) Warning() string { return p.dialer.Load().Warning() }

// ServerVersion is what the server of the newest connection calls itself; empty
// before the first connection.
func (p *Pool) ServerVersion() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serverVersion
}

// SetLimits replaces the limits; DialTimeout is ignored.
func (p *Pool) SetLimits(limits connpool.Limits) {
	limits.DialTimeout = noTimeout
	p.Pool.SetLimits(limits)
}

// Follow makes new connections by the dialer: for another host or account at
// once, and with new credentials for the same one as soon as they are proven.
func (p *Pool) Follow(next *Dialer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialer.Swap(next).version.Identity() == next.version.Identity() {
		p.changed(Rotated)
		p.Rotate(p.dialBy(next))
		return
	}
	p.serverVersion = ""
	p.changed(Moved)
	p.Replace(p.dialBy(next))
}

// dialBy makes the pool's dial function for a dialer. The result of a dial that
// the pool no longer waits for does not count.
func (p *Pool) dialBy(d *Dialer) connpool.DialFunc[*Conn] {
	return func(ctx context.Context) (*Conn, error) {
		log := dialing.Begin()
		opened, err := d.Dial(p.ranked(ctx), log)
		now := time.Now()
		made := &Conn{Conn: opened, Dialer: d, Made: now, Examined: now, Dialing: log, pool: p}
		if ctx.Err() == nil {
			p.record(d, made, err)
		}
		if err != nil {
			p.dropImpostor(d, err)
			return nil, err
		}
		return made, nil
	}
}

// news is for how long a dial of what was declared counts as one of something new.
const news = time.Minute

// ranked returns the context of a dial, which says how soon its turn comes.
func (p *Pool) ranked(ctx context.Context) context.Context {
	switch {
	case p.isWaitedFor():
		return dialbudget.Wanted(ctx)
	case time.Since(p.declared) < news:
		return dialbudget.Declared(ctx)
	}
	return ctx
}

// isWaitedFor reports whether a caller waits for a connection.
func (p *Pool) isWaitedFor() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Stats().Pending > 0
}

func (p *Pool) record(d *Dialer, made *Conn, err error) {
	if err == nil {
		p.mu.Lock()
		p.trusted, p.serverVersion = d.version.access.Trust, made.Info().ServerVersion
		p.mu.Unlock()
	}
	p.dialed(d, made, err)
}

// dropImpostor gives up the connections made with earlier pins, if the trial of
// the newest ones proves that the server is another one.
func (p *Pool) dropImpostor(d *Dialer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d == p.Dialer() && p.Stats().Rotation.Pending && d.version.invalidated(p.trusted, err) {
		p.changed(Distrusted)
		p.Replace(p.dialBy(d))
	}
}

// ReleaseProven gives a lease back whose connection may be to blame for the error: as
// soon as the connection has answered, for which the caller does not wait, or else as
// broken. If the error tells of a leftover, its slot stays taken.
func ReleaseProven(lease *Lease, err error) {
	leftover := driver.AsError(err).Leftover
	conn := lease.Conn()
	proving := conn.Context().Err() == nil && conn.pool.background.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, proofTimeout)
		defer cancel()
		switch err := conn.Probe(ctx); {
		case err != nil && !SessionRefused(err):
			lease.Discard()
		case leftover != nil:
			lease.LeaveBehind(leftover)
		default:
			lease.Release()
		}
	})
	if !proving {
		lease.Discard()
	}
}

// StartDrain drains the pool in the background, for at most the patience, and then
// calls then.
func (p *Pool) StartDrain(patience time.Duration, then func()) {
	p.background.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		// Leases that are cut at the end of the patience are not an error.
		_ = p.Drain(ctx)
		then()
	})
}

// DrainAll drains the pools side by side until ctx ends, cuts what is left, and
// returns when all is closed.
func DrainAll(ctx context.Context, pools []*Pool) {
	var all sync.WaitGroup
	for _, pool := range pools {
		all.Go(func() { _ = pool.Drain(ctx) })
	}
	all.Wait()
}

// SessionRefused reports whether err means that the server refused one more
// channel on a connection that otherwise works, so that nothing was started.
func SessionRefused(err error) bool {
	classified, ok := driver.Classified(err)
	return ok && classified.Reason == driver.SessionLimit && !classified.Started
}

func retryVerdict(err error) connpool.Verdict {
	failure := driver.AsError(err)
	verdict := connpool.Verdict{Park: failure.Reason.Permanent(), RetryAfter: failure.RetryAfter}
	if failure.PortRefused {
		verdict.LongestBackoff = refusedBackoff
	}
	return verdict
}
