package connpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestRandomWalk lets a pool meet operations, faults and time in any order, and
// checks after each step what must always hold, and at the end that the pool
// comes to rest as its limits say.
func TestRandomWalk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(*testing.T) {
			walker := &bubbleT{T: rt, cleanup: func() {}}
			defer func() {
				failure = recover()
				walker.cleanup()
			}()
			walk(walker)
		})
		if failure != nil {
			panic(failure) // a failure that rapid has to see outside the bubble
		}
	})
}

// bubbleT cleans up inside the bubble.
type bubbleT struct {
	*rapid.T
	cleanup func()
}

func (t *bubbleT) Cleanup(f func()) { t.cleanup = f }

// walker is the model: what a user of the pool and the remote know.
type walker struct {
	*fixture
	limits Limits
	// peak is the highest Max so far: a lower one cuts nothing.
	peak int
	// targets is how many dialers were given; the names grow with it.
	targets int
	// asks wait for a lease, held have one, in the order of asking.
	asks []*attempt
	held []*Lease[*fakeConn]
	// running are dials and probes the remote has not answered.
	running, probing []*call
	// made are the connections the remote accepted.
	made []*fakeConn
	// barred must never be leased again.
	barred map[*fakeConn]bool
	// leftovers are what was left behind and has not ended.
	leftovers []context.CancelFunc
}

func walk(rt *bubbleT) {
	limits := drawLimits(rt.T)
	fix := &walker{fixture: newFixture(rt, limits), limits: limits, peak: limits.Max, barred: map[*fakeConn]bool{}}
	rt.Repeat(map[string]func(*rapid.T){
		"":            fix.check,
		"acquire":     fix.acquire,
		"release":     func(rt *rapid.T) { fix.end(rt, (*Lease[*fakeConn]).Release) },
		"discard":     fix.discard,
		"narrow":      func(rt *rapid.T) { fix.end(rt, (*Lease[*fakeConn]).Narrow) },
		"leave":       fix.leaveBehind,
		"ends late":   fix.leftoverEnds,
		"give up":     fix.giveUp,
		"dial ok":     fix.dialOK,
		"dial fails":  fix.dialFails,
		"probe ends":  fix.probeEnds,
		"remote dies": fix.remoteDies,
		"rotate":      func(*rapid.T) { fix.pool.Rotate(fix.dialer(fix.target())) },
		"replace":     fix.replace,
		"recycle":     fix.recycle,
		"retry":       func(*rapid.T) { fix.pool.Retry() },
		"set limits":  fix.setLimits,
		"time passes": func(rt *rapid.T) { after(drawPause(rt)) },
	})
	if rapid.Bool().Draw(rt.T, "rest before the end") {
		fix.rest(rt.T)
	}
	fix.drain(rt.T)
}

func drawLimits(rt *rapid.T) Limits {
	l := Limits{
		Max:           rapid.IntRange(1, 4).Draw(rt, "max"),
		LeasesPerConn: rapid.IntRange(1, 3).Draw(rt, "leases"),
		MaxPending:    rapid.SampledFrom([]int{3, 3, -1}).Draw(rt, "pending"),
		MaxAge:        rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "age"),
		MaxIdle:       rapid.SampledFrom([]time.Duration{0, 20 * time.Second}).Draw(rt, "idle"),
		MaxUses:       rapid.SampledFrom([]int64{0, 3}).Draw(rt, "uses"),
		ProbePeriod:   rapid.SampledFrom([]time.Duration{0, 15 * time.Second}).Draw(rt, "probe"),
		DrainTimeout:  time.Minute,
		Paused:        rapid.IntRange(0, 9).Draw(rt, "pause") == 0,
		Recover:       rapid.Bool().Draw(rt, "recover"),
	}
	l.MinWarm = rapid.IntRange(0, l.Max).Draw(rt, "warm")
	return l
}

func drawPause(rt *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, 7 * time.Second, time.Minute, 6 * time.Minute}).Draw(rt, "pause")
}

func (fix *walker) target() string {
	fix.targets++
	return fmt.Sprintf("target %d", fix.targets)
}

func (fix *walker) acquire(rt *rapid.T) {
	free := fix.free()
	a := fix.ask()
	fix.asks = append(fix.asks, a)
	switch {
	case fix.limits.Paused && !errors.Is(a.err, ErrPaused):
		rt.Fatalf("paused pool: Acquire gave %v", a.err)
	case !fix.limits.Paused && free > 0 && (a.waits() || a.err != nil || a.lease.How() != Warm):
		rt.Fatalf("%d slots free, but Acquire gave %v; pool: %s", free, a.err, fix.summary())
	}
}

// end ends a lease held.
func (fix *walker) end(rt *rapid.T, how func(*Lease[*fakeConn])) *fakeConn {
	if len(fix.held) == 0 {
		rt.Skip("no lease")
	}
	i := rapid.IntRange(0, len(fix.held)-1).Draw(rt, "lease")
	l := fix.held[i]
	conn := l.Conn()
	fix.held = slices.Delete(fix.held, i, i+1)
	how(l)
	return conn
}

func (fix *walker) discard(rt *rapid.T) {
	fix.barred[fix.end(rt, (*Lease[*fakeConn]).Discard)] = true
}

func (fix *walker) leaveBehind(rt *rapid.T) {
	fix.end(rt, func(l *Lease[*fakeConn]) {
		leftover, ended := context.WithCancel(l.Conn().ctx)
		fix.leftovers = append(fix.leftovers, ended)
		l.LeaveBehind(leftover.Done())
	})
}

func (fix *walker) leftoverEnds(rt *rapid.T) {
	if len(fix.leftovers) == 0 {
		rt.Skip("no leftover")
	}
	fix.leftovers[0]()
	fix.leftovers = fix.leftovers[1:]
	synctest.Wait()
}

func (fix *walker) giveUp(rt *rapid.T) {
	if len(fix.asks) == 0 {
		rt.Skip("no caller waits")
	}
	rapid.SampledFrom(fix.asks).Draw(rt, "caller").cancel()
}

// collect takes the calls that the remote has got since.
func (fix *walker) collect() {
	synctest.Wait()
	for len(fix.dials) > 0 {
		fix.running = append(fix.running, <-fix.dials)
	}
	for len(fix.probes) > 0 {
		fix.probing = append(fix.probing, <-fix.probes)
	}
	over := func(c *call) bool { return c.ctx.Err() != nil }
	fix.running = slices.DeleteFunc(fix.running, over)
	fix.probing = slices.DeleteFunc(fix.probing, over)
}

// take removes one call at random.
func take(rt *rapid.T, calls *[]*call) *call {
	if len(*calls) == 0 {
		rt.Skip("no call")
	}
	i := rapid.IntRange(0, len(*calls)-1).Draw(rt, "call")
	c := (*calls)[i]
	*calls = slices.Delete(*calls, i, i+1)
	return c
}

func (fix *walker) dialOK(rt *rapid.T) {
	c := take(rt, &fix.running)
	fix.made = append(fix.made, c.conn)
	if rapid.IntRange(0, 9).Draw(rt, "stillborn") == 0 {
		c.conn.cancel(errKilled)
	}
	c.result <- nil
}

func (fix *walker) dialFails(rt *rapid.T) {
	take(rt, &fix.running).fail(rapid.SampledFrom([]error{errRefused, errBadKey}).Draw(rt, "error"))
}

func (fix *walker) probeEnds(rt *rapid.T) {
	take(rt, &fix.probing).result <- rapid.SampledFrom([]error{nil, errRefused}).Draw(rt, "result")
}

func (fix *walker) remoteDies(rt *rapid.T) {
	if len(fix.made) == 0 {
		rt.Skip("no connection")
	}
	c := rapid.SampledFrom(fix.made).Draw(rt, "connection")
	fix.barred[c] = true
	c.cancel(errKilled)
}

func (fix *walker) replace(*rapid.T) {
	for _, c := range fix.made {
		fix.barred[c] = true
	}
	for _, c := range fix.running {
		fix.barred[c.conn] = true
	}
	fix.pool.Replace(fix.dialer(fix.target()))
}

func (fix *walker) recycle(rt *rapid.T) {
	conns := fix.pool.Conns()
	if len(conns) == 0 || rapid.Bool().Draw(rt, "all") {
		fix.pool.RecycleAll()
		return
	}
	fix.pool.Recycle(rapid.SampledFrom(conns).Draw(rt, "connection").ID)
}

func (fix *walker) setLimits(rt *rapid.T) {
	fix.limits = drawLimits(rt)
	fix.peak = max(fix.peak, fix.limits.Max)
	fix.pool.SetLimits(fix.limits)
}

// slots is how many leases a connection carries now.
func (fix *walker) slots() int {
	if learned := fix.pool.Stats().Cap; learned > 0 {
		return min(learned, fix.limits.LeasesPerConn)
	}
	return fix.limits.LeasesPerConn
}

// free counts the slots that Acquire must find.
func (fix *walker) free() int {
	free := 0
	for _, c := range fix.pool.Conns() {
		if c.State == Idle || c.State == Leased {
			free += max(0, fix.slots()-c.Leases-c.Leftovers)
		}
	}
	return free
}

// check checks what must hold after every step.
func (fix *walker) check(rt *rapid.T) {
	fix.collect()
	fix.checkAnswers(rt)
	fix.checkConns(rt)
	if err := fix.pool.audit(); err != nil {
		rt.Fatalf("%v; pool: %s", err, fix.summary())
	}
	stats := fix.pool.Stats()
	if stats.Leases != len(fix.held) || stats.Pending != len(fix.asks) {
		rt.Fatalf("%d leases and %d callers; pool: %s", len(fix.held), len(fix.asks), fix.summary())
	}
	if free := fix.free(); len(fix.asks) > 0 && free > 0 {
		rt.Fatalf("%d callers wait beside %d free slots; pool: %s", len(fix.asks), free, fix.summary())
	}
	if all := stats.Idle + stats.InUse + stats.Draining + stats.Dialing; all > 2*fix.peak+1 {
		rt.Fatalf("%d connections in all, want at most twice %d and one on trial; pool: %s", all, fix.peak, fix.summary())
	}
}

// checkAnswers checks which callers got a lease: in order, of a connection that
// serves.
func (fix *walker) checkAnswers(rt *rapid.T) {
	var waiting []*attempt
	for _, a := range fix.asks {
		switch {
		case a.waits():
			waiting = append(waiting, a)
		case a.err != nil:
			fix.checkError(rt, a.err)
		case len(waiting) > 0:
			rt.Fatalf("a caller was overtaken; pool: %s", fix.summary())
		case fix.barred[a.lease.Conn()]:
			rt.Fatalf("a connection was leased that must not be: %s, %v; pool: %s", a.lease.Conn().target, context.Cause(a.lease.Conn().ctx), fix.summary())
		default:
			fix.held = append(fix.held, a.lease)
		}
	}
	fix.asks = waiting
}

func (fix *walker) checkError(rt *rapid.T, err error) {
	var down *DownError
	if errors.As(err, &down) || errors.Is(err, ErrExhausted) || errors.Is(err, ErrPaused) || errors.Is(err, context.Canceled) {
		return
	}
	rt.Fatalf("Acquire failed with %v", err)
}

// checkConns compares what the pool counts with what the remote and the users know.
func (fix *walker) checkConns(rt *rapid.T) {
	leases := map[*fakeConn]int{}
	for _, l := range fix.held {
		leases[l.Conn()]++
	}
	known := map[*fakeConn]bool{}
	for _, c := range fix.pool.Conns() {
		known[c.Conn] = true
		if c.Leases != leases[c.Conn] {
			rt.Fatalf("connection %d has %d leases, users hold %d", c.ID, c.Leases, leases[c.Conn])
		}
		if c.Conn.ctx.Err() != nil {
			rt.Fatalf("connection %d is dead and %s", c.ID, c.State)
		}
	}
	for _, c := range fix.probing {
		known[c.conn] = true // on trial
	}
	for _, c := range fix.made {
		if !known[c] && !c.isClosed() {
			rt.Fatalf("a connection to %s is open and forgotten; pool: %s", c.target, fix.summary())
		}
	}
}

// rest lets the remote answer everything, ends the leases and checks that the
// pool gets what its limits ask for, and gives up everything in the end.
func (fix *walker) rest(rt *rapid.T) {
	fix.limits = Limits{MinWarm: 2, Max: 4, LeasesPerConn: 2, MaxIdle: time.Minute, DrainTimeout: time.Minute}
	fix.peak = max(fix.peak, fix.limits.Max)
	fix.pool.SetLimits(fix.limits)
	for range 600 {
		fix.check(rt)
		for _, c := range append(fix.running, fix.probing...) {
			c.result <- nil
		}
		fix.running, fix.probing = nil, nil
		fix.check(rt)
		for _, l := range fix.held {
			l.Release()
		}
		fix.held = nil
		after(time.Second)
	}
	fix.check(rt)
	stats := fix.pool.Stats()
	if fix.summary() != "2 idle" || stats.Rotation.Pending {
		rt.Fatalf("did not come to rest: %s, %+v", fix.summary(), stats)
	}
}

// drain ends the pool in whatever state it is. Leases that are still held are
// cut at the deadline, and only they can make it wait.
func (fix *walker) drain(rt *rapid.T) {
	fix.check(rt)
	busy := slices.ContainsFunc(fix.pool.Conns(), func(c ConnStats[*fakeConn]) bool { return c.Leases > 0 })
	var err error
	done := background(func() { err = fix.pool.Drain(context.Background()) })
	if ended(done) == busy {
		rt.Fatalf("Drain ended: %v, leases: %v; pool: %s", busy, busy, fix.summary())
	}
	after(fix.limits.DrainTimeout)
	cut := busy && fix.limits.ProbePeriod == 0 // else a probe may have been faster
	if !ended(done) || cut && !errors.Is(err, context.DeadlineExceeded) || !busy && err != nil {
		rt.Fatalf("Drain gave %v; pool: %s", err, fix.summary())
	}
	for _, a := range fix.asks {
		if a.waits() {
			rt.Fatalf("a caller waits for a drained pool")
		}
	}
	for _, c := range fix.made {
		if !c.isClosed() {
			rt.Fatalf("a connection outlived the pool")
		}
	}
}

// audit compares what the pool keeps in two places.
func (p *Pool[C]) audit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.s
	var count [phases]int
	shelved := 0
	for _, c := range s.conns {
		count[c.state]++
		if c.elem.In != s.listFor(c) {
			return fmt.Errorf("connection %d is in the wrong place", c.id)
		}
		if c.elem.In != nil {
			shelved++
		}
	}
	for phase := fresh; phase < gone; phase++ {
		if count[phase] != s.count[phase] {
			return fmt.Errorf("%d connections in phase %d, counted %d", count[phase], phase, s.count[phase])
		}
	}
	if kept := s.loaded.Len + s.idle.Len + s.leaving.Len; kept != shelved {
		return fmt.Errorf("%d connections to lease, listed %d", shelved, kept)
	}
	if taken := s.count[fresh] + s.count[closing]; s.dialing < 0 || s.gen.dialing < 0 || s.probing < 0 || taken < 0 {
		return fmt.Errorf("negative counts: %+v", s.count)
	}
	return nil
}
