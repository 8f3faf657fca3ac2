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
	*world
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
}

func walk(rt *bubbleT) {
	limits := drawLimits(rt.T)
	w := &walker{world: newWorld(rt, limits), limits: limits, peak: limits.Max, barred: map[*fakeConn]bool{}}
	rt.Repeat(map[string]func(*rapid.T){
		"":            w.check,
		"acquire":     w.acquire,
		"release":     func(rt *rapid.T) { w.end(rt, (*Lease[*fakeConn]).Release) },
		"discard":     w.discard,
		"narrow":      func(rt *rapid.T) { w.end(rt, (*Lease[*fakeConn]).Narrow) },
		"give up":     w.giveUp,
		"dial ok":     w.dialOK,
		"dial fails":  w.dialFails,
		"probe ends":  w.probeEnds,
		"remote dies": w.remoteDies,
		"rotate":      func(*rapid.T) { w.pool.Rotate(w.dialer(w.target())) },
		"replace":     w.replace,
		"recycle":     w.recycle,
		"retry":       func(*rapid.T) { w.pool.Retry() },
		"set limits":  w.setLimits,
		"time passes": func(rt *rapid.T) { after(drawPause(rt)) },
	})
	if rapid.Bool().Draw(rt.T, "rest before the end") {
		w.rest(rt.T)
	}
	w.drain(rt.T)
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

func (w *walker) target() string {
	w.targets++
	return fmt.Sprintf("target %d", w.targets)
}

func (w *walker) acquire(rt *rapid.T) {
	free := w.free()
	a := w.ask()
	w.asks = append(w.asks, a)
	switch {
	case w.limits.Paused && !errors.Is(a.err, ErrPaused):
		rt.Fatalf("paused pool: Acquire gave %v", a.err)
	case !w.limits.Paused && free > 0 && (a.waits() || a.err != nil || a.lease.How() != Warm):
		rt.Fatalf("%d slots free, but Acquire gave %v; pool: %s", free, a.err, w.summary())
	}
}

// end ends a lease held.
func (w *walker) end(rt *rapid.T, how func(*Lease[*fakeConn])) *fakeConn {
	if len(w.held) == 0 {
		rt.Skip("no lease")
	}
	i := rapid.IntRange(0, len(w.held)-1).Draw(rt, "lease")
	l := w.held[i]
	conn := l.Conn()
	w.held = slices.Delete(w.held, i, i+1)
	how(l)
	return conn
}

func (w *walker) discard(rt *rapid.T) {
	w.barred[w.end(rt, (*Lease[*fakeConn]).Discard)] = true
}

func (w *walker) giveUp(rt *rapid.T) {
	if len(w.asks) == 0 {
		rt.Skip("nobody waits")
	}
	rapid.SampledFrom(w.asks).Draw(rt, "caller").cancel()
}

// collect takes the calls that the remote has got since.
func (w *walker) collect() {
	synctest.Wait()
	for len(w.dials) > 0 {
		w.running = append(w.running, <-w.dials)
	}
	for len(w.probes) > 0 {
		w.probing = append(w.probing, <-w.probes)
	}
	over := func(c *call) bool { return c.ctx.Err() != nil }
	w.running = slices.DeleteFunc(w.running, over)
	w.probing = slices.DeleteFunc(w.probing, over)
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

func (w *walker) dialOK(rt *rapid.T) {
	c := take(rt, &w.running)
	w.made = append(w.made, c.conn)
	if rapid.IntRange(0, 9).Draw(rt, "stillborn") == 0 {
		c.conn.cancel(errKilled)
	}
	c.result <- nil
}

func (w *walker) dialFails(rt *rapid.T) {
	take(rt, &w.running).fail(rapid.SampledFrom([]error{errRefused, errBadKey}).Draw(rt, "error"))
}

func (w *walker) probeEnds(rt *rapid.T) {
	take(rt, &w.probing).result <- rapid.SampledFrom([]error{nil, errRefused}).Draw(rt, "result")
}

func (w *walker) remoteDies(rt *rapid.T) {
	if len(w.made) == 0 {
		rt.Skip("no connection")
	}
	c := rapid.SampledFrom(w.made).Draw(rt, "connection")
	w.barred[c] = true
	c.cancel(errKilled)
}

func (w *walker) replace(*rapid.T) {
	for _, c := range w.made {
		w.barred[c] = true
	}
	for _, c := range w.running {
		w.barred[c.conn] = true
	}
	w.pool.Replace(w.dialer(w.target()))
}

func (w *walker) recycle(rt *rapid.T) {
	conns := w.pool.Conns()
	if len(conns) == 0 || rapid.Bool().Draw(rt, "all") {
		w.pool.RecycleAll()
		return
	}
	w.pool.Recycle(rapid.SampledFrom(conns).Draw(rt, "connection").ID)
}

func (w *walker) setLimits(rt *rapid.T) {
	w.limits = drawLimits(rt)
	w.peak = max(w.peak, w.limits.Max)
	w.pool.SetLimits(w.limits)
}

// slots is how many leases a connection carries now.
func (w *walker) slots() int {
	if learned := w.pool.Stats().Cap; learned > 0 {
		return min(learned, w.limits.LeasesPerConn)
	}
	return w.limits.LeasesPerConn
}

// free counts the slots that Acquire must find.
func (w *walker) free() int {
	free := 0
	for _, c := range w.pool.Conns() {
		if c.State == Idle || c.State == Leased {
			free += max(0, w.slots()-c.Leases)
		}
	}
	return free
}

// check is what must hold after every step.
func (w *walker) check(rt *rapid.T) {
	w.collect()
	w.checkAnswers(rt)
	w.checkConns(rt)
	if err := w.pool.audit(); err != nil {
		rt.Fatalf("%v; pool: %s", err, w.summary())
	}
	stats := w.pool.Stats()
	if stats.Leases != len(w.held) || stats.Pending != len(w.asks) {
		rt.Fatalf("%d leases and %d callers; pool: %s", len(w.held), len(w.asks), w.summary())
	}
	if free := w.free(); len(w.asks) > 0 && free > 0 {
		rt.Fatalf("%d callers wait beside %d free slots; pool: %s", len(w.asks), free, w.summary())
	}
	if all := stats.Idle + stats.InUse + stats.Draining + stats.Dialing; all > 2*w.peak+1 {
		rt.Fatalf("%d connections in all, want at most twice %d and one on trial; pool: %s", all, w.peak, w.summary())
	}
}

// checkAnswers sorts out who got a lease: in order, of a connection that serves.
func (w *walker) checkAnswers(rt *rapid.T) {
	var waiting []*attempt
	for _, a := range w.asks {
		switch {
		case a.waits():
			waiting = append(waiting, a)
		case a.err != nil:
			w.checkError(rt, a.err)
		case len(waiting) > 0:
			rt.Fatalf("a caller was overtaken; pool: %s", w.summary())
		case w.barred[a.lease.Conn()]:
			rt.Fatalf("a connection was leased that must not be: %s, %v; pool: %s", a.lease.Conn().target, context.Cause(a.lease.Conn().ctx), w.summary())
		default:
			w.held = append(w.held, a.lease)
		}
	}
	w.asks = waiting
}

func (w *walker) checkError(rt *rapid.T, err error) {
	var down *DownError
	if errors.As(err, &down) || errors.Is(err, ErrExhausted) || errors.Is(err, ErrPaused) || errors.Is(err, context.Canceled) {
		return
	}
	rt.Fatalf("Acquire failed with %v", err)
}

// checkConns compares the pool's books with the remote's and the users'.
func (w *walker) checkConns(rt *rapid.T) {
	leases := map[*fakeConn]int{}
	for _, l := range w.held {
		leases[l.Conn()]++
	}
	known := map[*fakeConn]bool{}
	for _, c := range w.pool.Conns() {
		known[c.Conn] = true
		if c.Leases != leases[c.Conn] {
			rt.Fatalf("connection %d has %d leases, users hold %d", c.ID, c.Leases, leases[c.Conn])
		}
		if c.Conn.ctx.Err() != nil {
			rt.Fatalf("connection %d is dead and %s", c.ID, c.State)
		}
	}
	for _, c := range w.probing {
		known[c.conn] = true // on trial
	}
	for _, c := range w.made {
		if !known[c] && !c.isClosed() {
			rt.Fatalf("a connection to %s is open and forgotten; pool: %s", c.target, w.summary())
		}
	}
}

// rest lets the remote answer everything, ends the leases and checks that the
// pool gets what its limits ask for, and gives up everything in the end.
func (w *walker) rest(rt *rapid.T) {
	w.limits = Limits{MinWarm: 2, Max: 4, LeasesPerConn: 2, MaxIdle: time.Minute, DrainTimeout: time.Minute}
	w.peak = max(w.peak, w.limits.Max)
	w.pool.SetLimits(w.limits)
	for range 600 {
		w.check(rt)
		for _, c := range append(w.running, w.probing...) {
			c.result <- nil
		}
		w.running, w.probing = nil, nil
		w.check(rt)
		for _, l := range w.held {
			l.Release()
		}
		w.held = nil
		after(time.Second)
	}
	w.check(rt)
	stats := w.pool.Stats()
	if w.summary() != "2 idle" || stats.Rotation.Pending {
		rt.Fatalf("did not come to rest: %s, %+v", w.summary(), stats)
	}
}

// drain ends the pool in whatever state it is. Leases that are still held are
// cut at the deadline, and only they can make it wait.
func (w *walker) drain(rt *rapid.T) {
	w.check(rt)
	busy := slices.ContainsFunc(w.pool.Conns(), func(c ConnStats[*fakeConn]) bool { return c.Leases > 0 })
	var err error
	done := background(func() { err = w.pool.Drain(context.Background()) })
	if ended(done) == busy {
		rt.Fatalf("Drain ended: %v, leases: %v; pool: %s", busy, busy, w.summary())
	}
	after(w.limits.DrainTimeout)
	cut := busy && w.limits.ProbePeriod == 0 // else a probe may have been faster
	if !ended(done) || cut && !errors.Is(err, context.DeadlineExceeded) || !busy && err != nil {
		rt.Fatalf("Drain gave %v; pool: %s", err, w.summary())
	}
	for _, a := range w.asks {
		if a.waits() {
			rt.Fatalf("a caller waits for a drained pool")
		}
	}
	for _, c := range w.made {
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
		if c.elem.in != s.listFor(c) {
			return fmt.Errorf("connection %d is in the wrong place", c.id)
		}
		if c.elem.in != nil {
			shelved++
		}
	}
	for phase := fresh; phase < gone; phase++ {
		if count[phase] != s.count[phase] {
			return fmt.Errorf("%d connections in phase %d, counted %d", count[phase], phase, s.count[phase])
		}
	}
	if kept := s.loaded.len + s.idle.len + s.leaving.len; kept != shelved {
		return fmt.Errorf("%d connections to lease, listed %d", shelved, kept)
	}
	if taken := s.count[fresh] + s.count[closing]; s.dialing < 0 || s.gen.dialing < 0 || s.probing < 0 || taken < 0 {
		return fmt.Errorf("negative counts: %+v", s.count)
	}
	return nil
}
