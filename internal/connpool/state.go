package connpool

import (
	"context"
	"slices"
	"time"

	"github.com/connpool/connpool/internal/list"
)

// state is everything the lock guards.
type state[C Conn] struct {
	pool   *Pool[C]
	limits Limits
	// refuse is why nothing is leased: nil, ErrPaused or ErrClosed.
	refuse error
	// ended is set by Drain and Close, finished when done was closed; changed asks unlock
	// to notify.
	ended, finished, changed bool

	// gen is what is dialed; next are credentials not proven yet, or nil.
	gen, next   *generation[C]
	generations int
	// dialing counts running dials of every generation.
	dialing int
	// recycles counts the calls of RecycleAll.
	recycles int

	// conns are all connections, oldest first; count counts them by phase.
	conns  []*conn[C]
	count  [phases]int
	lastID uint64
	// loaded, idle and leaving hold the connections with a free slot, in the
	// order in which they are preferred; slots is how many leases each carries.
	loaded, idle, leaving list.List[*conn[C]]
	slots                 int

	// lines are the callers who wait, by user, and turns those lines in the order in which
	// they are served. waiting counts the callers, lastLine is the line that was asked for
	// last. answers are those whom unlock is to wake.
	lines    map[string]*line[C]
	turns    list.List[*line[C]]
	lastLine *line[C]
	waiting  int
	answers  *waiter[C]
	// spare are leases to use again.
	spare *Lease[C]

	// probes are cut at the end; probing counts those that run.
	probes  scopes
	probing int
	// timer settles at alarm, 0 is never; it may fire early, never late.
	timer *time.Timer
	alarm instant

	tally tally
	// reported is the load that Options.Loaded was told of last.
	reported Load
}

// phase is where a connection is in its life. It only moves forward.
type phase uint8

const (
	// unborn: not known to the pool yet.
	unborn phase = iota
	// fresh: serves.
	fresh
	// retiring: serves until a successor is warm.
	retiring
	// draining: takes no new lease, closes after the last one.
	draining
	// closing: being closed, also if it carries leases.
	closing
	// gone: closed.
	gone
	phases
)

// conn is what the pool knows of one connection.
type conn[C Conn] struct {
	id   uint64
	conn C
	gen  *generation[C]
	// unwatch stops watching for the connection's death, cause is why it died
	// or was given up.
	unwatch func() bool
	cause   error

	state  phase
	elem   list.Element[*conn[C]]
	leased int
	uses   int64
	// leftovers counts leases left behind; tainted stays true after the first of them.
	leftovers int
	tainted   bool

	created, lastUsed instant
	// jitter in [0, 1) spreads the ages and probes of connections.
	jitter float64
	// cutoff ends a drain; 0 is never.
	cutoff instant

	// probed is when the last probe began, probeFailures the streak of failed ones.
	probing       bool
	probed        instant
	probeFailures int
}

// serves reports whether the connection may be leased.
func (c *conn[C]) serves() bool { return c.state == fresh || c.state == retiring }

// serving counts the connections that may be leased.
func (s *state[C]) serving() int { return s.count[fresh] + s.count[retiring] }

// generation is the connections that one dial function makes, and its dials.
type generation[C Conn] struct {
	number int
	dial   DialFunc[C]
	// dials are cut when they are no longer wanted; dialing counts those that run.
	dials   scopes
	dialing int
	// proven is set by the first dial that succeeds; dialed is when the last one ended.
	proven bool
	dialed instant
	streak failureStreak
	// learnedCap is the learned bound on leases for each connection, 0 is none;
	// capSource is the connection that it was learned on.
	learnedCap int
	capSource  *conn[C]
}

func (s *state[C]) generation(dial DialFunc[C]) *generation[C] {
	s.generations++
	return &generation[C]{number: s.generations, dial: dial}
}

// move takes a connection to a later phase, and starts what that phase needs.
func (s *state[C]) move(c *conn[C], to phase) {
	if to <= c.state {
		return
	}
	s.count[c.state]--
	c.state = to
	s.count[to]++
	s.changed = true
	s.reindex(c)
	s.forgetCap(c)
	switch {
	case to == draining && c.leased == 0:
		s.move(c, closing)
	case to == closing:
		go s.pool.shut(c)
	case to == gone:
		s.conns = slices.DeleteFunc(s.conns, func(o *conn[C]) bool { return o == c })
	}
}

// reindex moves a connection to the list in which pick finds it, or out of all lists.
// Connections that carry leases come first, then the one used last, so that surplus
// connections stay unused and idle out. Retiring ones come last.
func (s *state[C]) reindex(c *conn[C]) {
	in := s.listFor(c)
	if c.elem.In == in {
		return
	}
	c.elem.Leave()
	if in != nil {
		in.PushFront(&c.elem)
	}
}

func (s *state[C]) listFor(c *conn[C]) *list.List[*conn[C]] {
	switch {
	case !c.serves() || c.leased+c.leftovers >= s.slots:
		return nil
	case c.state == retiring:
		return &s.leaving
	case c.leased == 0:
		return &s.idle
	default:
		return &s.loaded
	}
}

// pick returns the connection to lease next, or nil.
func (s *state[C]) pick() *conn[C] {
	switch {
	case s.loaded.Head != nil:
		return s.loaded.Head.Value
	case s.idle.Head != nil:
		return s.idle.Head.Value
	case s.leaving.Head != nil:
		return s.leaving.Head.Value
	default:
		return nil
	}
}

// pickFor is pick, or the opposite of it: an idle connection, or else the one with the
// fewest leases. Retiring ones come last in both.
func (s *state[C]) pickFor(spread bool) *conn[C] {
	switch {
	case !spread, s.loaded.Head == nil:
		return s.pick()
	case s.idle.Head != nil:
		return s.idle.Head.Value
	}
	fewest := s.loaded.Head.Value
	for e := s.loaded.Head.Next; e != nil; e = e.Next {
		if e.Value.leased+e.Value.leftovers < fewest.leased+fewest.leftovers {
			fewest = e.Value
		}
	}
	return fewest
}

// lease takes a slot of a connection.
func (s *state[C]) lease(c *conn[C], how How, wait time.Duration) *Lease[C] {
	l := s.spare
	if l == nil {
		l = &Lease[C]{pool: s.pool}
	} else {
		s.spare = l.spare
	}
	l.conn, l.beside, l.how, l.wait = c, c.leased, how, wait
	c.leased++
	s.reindex(c)
	s.tally.leases++
	s.tally.acquired[how].Count++
	s.tally.acquired[how].Wait += wait
	return l
}

// unlease gives a slot back and returns its connection; nil if that was done
// before.
func (s *state[C]) unlease(l *Lease[C]) *conn[C] {
	c := l.conn
	if c == nil {
		return nil
	}
	l.conn = nil
	l.spare, s.spare = s.spare, l
	c.leased--
	s.tally.leases--
	return c
}

// used counts the end of a use.
func (s *state[C]) used(c *conn[C], now instant) {
	c.uses++
	c.lastUsed = now
	s.tally.uses++
	s.tally.lastUsed = now
}

// setLimits takes new limits.
func (s *state[C]) setLimits(limits Limits) {
	s.limits = limits.withDefaults()
	switch {
	case s.ended:
	case limits.Paused:
		s.refuse = ErrPaused
		s.giveUpDials()
	default:
		s.refuse = nil
	}
	s.resize()
}

// resize applies the limit, or the learned cap, on leases for each connection.
func (s *state[C]) resize() {
	s.slots = s.limits.LeasesPerConn
	if s.gen.learnedCap > 0 {
		s.slots = min(s.slots, s.gen.learnedCap)
	}
	for _, c := range s.conns {
		s.reindex(c)
	}
}

// lowerCap learns that a connection of the current generation carries no more
// than so many leases.
func (s *state[C]) lowerCap(c *conn[C], leases int) {
	learned := max(leases, 1)
	if c.gen == s.gen && (s.gen.learnedCap == 0 || learned < s.gen.learnedCap) {
		s.gen.learnedCap, s.gen.capSource = learned, c
		s.resize()
	}
}

// forgetCap forgets the cap that was learned on a connection that leaves.
func (s *state[C]) forgetCap(c *conn[C]) {
	if c.gen.capSource == c {
		c.gen.learnedCap, c.gen.capSource = 0, nil
		s.resize()
	}
}

// add makes a dialed connection one of the pool's.
func (s *state[C]) add(c *conn[C], now instant) {
	s.lastID++
	c.id, c.created, c.lastUsed, c.probed = s.lastID, now, now, now
	c.jitter = s.pool.random()
	s.conns = append(s.conns, c)
	s.count[unborn]++
}

// retire lets the chosen connections serve until their successors are warm, and
// returns how many were chosen.
func (s *state[C]) retire(chosen func(*conn[C]) bool) (retired int) {
	for _, c := range s.conns {
		if c.state == fresh && chosen(c) {
			s.move(c, retiring)
			retired++
		}
	}
	return retired
}

// drop stops leasing every connection at once; what runs may go on until the
// cutoff, if there is one.
func (s *state[C]) drop(cutoff instant) {
	for _, c := range s.conns {
		c.cutoff = cutoff
		s.move(c, draining)
	}
}

// end refuses new leases, stops dialing and drains. It is done once.
func (s *state[C]) end() {
	if s.ended {
		return
	}
	s.ended = true
	s.refuse = ErrClosed
	s.gen.dials.cut()
	s.abandon()
	s.drop(0)
}

// finish closes done once everything is closed.
func (s *state[C]) finish() {
	if !s.ended || s.finished || len(s.conns)+s.dialing+s.probing > 0 {
		return
	}
	s.finished = true
	s.timer.Stop()
	close(s.pool.done)
}

// shut closes a connection, and frees its slot when that is done.
func (p *Pool[C]) shut(c *conn[C]) {
	c.unwatch()
	// A connection that fails to close is as gone as one that does not.
	_ = c.conn.Close()
	p.change(func(s *state[C], _ instant) { s.move(c, gone) })
}

// died records that a connection ended by itself.
func (p *Pool[C]) died(c *conn[C]) {
	p.change(func(s *state[C], now instant) { s.died(c, now) })
}

func (s *state[C]) died(c *conn[C], now instant) {
	c.cause = context.Cause(c.conn.Context())
	s.closeDead(c, now)
}

// closeDead closes a connection that is dead or does not answer, if the pool still
// has it.
func (s *state[C]) closeDead(c *conn[C], now instant) {
	if c.state == unborn || c.state >= closing {
		return
	}
	if c.gen == s.gen && s.gen.streak.lost(c.cause, c.created, now, s.pool.random()) {
		go s.pool.dropped(c.conn, c.cause)
	}
	s.move(c, closing)
}
