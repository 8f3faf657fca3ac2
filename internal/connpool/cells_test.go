package connpool

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// cellLimits keep connections for ever, unless an event says otherwise.
var cellLimits = Limits{MinWarm: 1, Max: 2, LeasesPerConn: 2, MaxPending: 100, DrainTimeout: time.Minute}

// limitsWith returns the limits of the table with a change.
func limitsWith(change func(*Limits)) Limits {
	l := cellLimits
	change(&l)
	return l
}

// cell is a pool in one of the states that a connection can be in.
type cell struct {
	*fixture
	// before are the connections that were made, or begun, before the event.
	before []*fakeConn
	// running are dials that the remote has not answered.
	running []*call
	leases  []*Lease[*fakeConn]
	asks    []*attempt
	// ending is closed when a Drain or Close of the event has returned.
	ending <-chan struct{}
}

// columns are the states of a connection when an event comes. A dial that runs
// succeeds later, whether or not the pool has given it up by then.
var columns = []struct {
	name string
	make func(*cell)
}{
	{"dialing", func(c *cell) { c.begin() }},
	{"idle", func(c *cell) { c.before = append(c.before, c.connect()) }},
	{"in use", func(c *cell) {
		c.before = append(c.before, c.connect())
		c.leases = append(c.leases, c.lease())
	}},
	{"draining", func(c *cell) {
		c.before = append(c.before, c.connect())
		c.leases = append(c.leases, c.lease())
		c.pool.RecycleAll()
		c.before = append(c.before, c.connect())
	}},
	{"waiting caller", func(c *cell) {
		c.begin()
		c.asks = append(c.asks, c.ask())
	}},
}

// begin takes a dial whose answer comes after the event.
func (c *cell) begin() {
	c.running = append(c.running, c.dial())
	c.before = append(c.before, c.running[0].conn)
}

// rows are the events. atOnce is the pool right after the event, by column. Then all
// dials succeed and all leases end: atEnd is the pool that is left in every column,
// and kept reports whether a connection from before the event may be in it.
var rows = []struct {
	name   string
	event  func(*cell)
	atOnce [5]string
	atEnd  string
	kept   bool
}{
	{
		name: "pause", event: func(c *cell) { c.pause() },
		atOnce: [5]string{"1 dialing", "empty", "1 in use, 1 leases", "1 draining, 1 leases", "1 dialing"},
		atEnd:  "empty",
	},
	{
		name: "drain", event: func(c *cell) { c.pool.RecycleAll() },
		atOnce: [5]string{
			"1 dialing", "1 idle, 1 dialing", "1 in use, 1 dialing, 1 leases",
			"1 idle, 1 dialing, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "1 idle",
	},
	{
		name: "drain of a pool without a minimum",
		event: func(c *cell) {
			c.pool.SetLimits(limitsWith(func(l *Limits) { l.MinWarm = 0 }))
			c.pool.RecycleAll()
		},
		// A lease that goes on, or a caller, still wants a successor. It stays.
		atOnce: [5]string{"1 dialing", "empty", "1 in use, 1 dialing, 1 leases", "1 draining, 1 leases", "1 dialing, 1 pending"},
	},
	{
		name:  "scale down",
		event: func(c *cell) { c.pool.SetLimits(limitsWith(func(l *Limits) { l.Max = 1 })) },
		atOnce: [5]string{
			"1 dialing", "1 idle", "1 in use, 1 leases", "1 idle, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "1 idle", kept: true,
	},
	{
		name: "the minimum is lowered, as at the end of a schedule",
		event: func(c *cell) {
			c.pool.SetLimits(limitsWith(func(l *Limits) { l.MinWarm, l.MaxIdle = 0, 5*time.Second }))
		},
		atOnce: [5]string{
			"1 dialing", "1 idle", "1 in use, 1 leases", "1 idle, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "empty",
	},
	{
		name:   "delete",
		event:  func(c *cell) { c.ending = background(func() { _ = c.pool.Drain(context.Background()) }) },
		atOnce: [5]string{"1 dialing", "empty", "1 draining, 1 leases", "1 draining, 1 leases", "1 dialing"},
		atEnd:  "empty",
	},
	{
		name:   "close",
		event:  func(c *cell) { c.ending = background(func() { _ = c.pool.Close() }) },
		atOnce: [5]string{"1 dialing", "empty", "1 leases", "1 leases", "1 dialing"},
		atEnd:  "empty",
	},
	{
		name:  "new version",
		event: func(c *cell) { c.pool.Rotate(c.dialer("new")) },
		atOnce: [5]string{
			"2 dialing", "1 idle, 1 dialing", "1 in use, 1 dialing, 1 leases",
			"1 idle, 1 dialing, 1 draining, 1 leases", "2 dialing, 1 pending",
		},
		atEnd: "1 idle",
	},
	{
		name:  "another host, or one that is not the pinned one",
		event: func(c *cell) { c.pool.Replace(c.dialer("new")) },
		atOnce: [5]string{
			"2 dialing", "1 dialing", "1 dialing, 1 draining, 1 leases", "1 dialing, 1 draining, 1 leases", "2 dialing, 1 pending",
		},
		atEnd: "1 idle",
	},
	{
		name: "narrow",
		event: func(c *cell) {
			for _, l := range c.leases {
				l.Narrow()
			}
			c.leases = nil
		},
		atOnce: [5]string{"1 dialing", "1 idle", "1 idle", "1 idle", "1 dialing, 1 pending"},
		atEnd:  "1 idle", kept: true,
	},
	{
		name: "idle expiry",
		event: func(c *cell) {
			c.pool.SetLimits(limitsWith(func(l *Limits) { l.MaxIdle = time.Second }))
			after(2 * time.Second)
		},
		atOnce: [5]string{
			"1 dialing", "1 idle", "1 in use, 1 leases", "1 idle, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "1 idle", kept: true,
	},
	{
		name: "maxAge",
		event: func(c *cell) {
			c.pool.SetLimits(limitsWith(func(l *Limits) { l.MaxAge = 5 * time.Second }))
			after(5 * time.Second)
		},
		atOnce: [5]string{
			"1 dialing", "1 idle, 1 dialing", "1 in use, 1 dialing, 1 leases",
			"1 idle, 1 dialing, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "1 idle",
	},
	{
		name:  "maxUses",
		event: func(c *cell) { c.useUp() },
		atOnce: [5]string{
			"1 dialing", "1 idle, 1 dialing", "1 in use, 1 dialing, 1 leases",
			"1 idle, 1 dialing, 1 draining, 1 leases", "1 dialing, 1 pending",
		},
		atEnd: "1 idle", kept: true, // a dial that runs has not been used
	},
	{
		name: "maxUses, then drain, then pause",
		event: func(c *cell) {
			c.useUp()
			c.pool.RecycleAll()
			synctest.Wait()
			c.pause()
		},
		atOnce: [5]string{
			"1 dialing", "1 dialing", "1 in use, 1 dialing, 1 leases", "1 dialing, 1 draining, 1 leases", "1 dialing",
		},
		atEnd: "empty",
	},
}

// pause does what the pool set does when a pool is paused.
func (c *cell) pause() {
	c.pool.SetLimits(limitsWith(func(l *Limits) { l.Paused, l.MinWarm = true, 0 }))
	c.pool.RecycleAll()
}

// useUp gives every connection that can be leased its last use.
func (c *cell) useUp() {
	c.pool.SetLimits(limitsWith(func(l *Limits) { l.MaxUses = 1 }))
	if c.pool.Stats().Warm() > 0 {
		c.lease().Release()
	}
}

// finish lets every dial succeed and ends every lease, for a while.
func (c *cell) finish() {
	for range 60 {
		synctest.Wait()
		for len(c.dials) > 0 {
			c.running = append(c.running, <-c.dials)
		}
		for _, running := range c.running {
			running.result <- nil
		}
		c.running = nil
		for len(c.probes) > 0 {
			(<-c.probes).result <- nil
		}
		for _, a := range c.asks {
			if !a.waits() && a.err == nil {
				c.leases = append(c.leases, a.lease)
			}
		}
		c.asks = slices.DeleteFunc(c.asks, func(a *attempt) bool { return !a.waits() })
		for _, l := range c.leases {
			l.Release()
		}
		c.leases = nil
		after(100 * time.Millisecond)
	}
}

// TestEveryEventInEveryState is the table of events and of states that a connection
// can be in.
func TestEveryEventInEveryState(t *testing.T) {
	for _, row := range rows {
		for i, column := range columns {
			t.Run(row.name+"/"+column.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &cell{fixture: newFixture(t, Limits{})}
					c.stubborn = true
					c.pool.SetLimits(cellLimits)
					column.make(c)
					row.event(c)
					if got := c.summary(); got != row.atOnce[i] {
						t.Errorf("at once: %s; want: %s", got, row.atOnce[i])
					}
					c.finish()
					if row.atEnd != "" {
						c.expect(row.atEnd)
					}
					for n, conn := range c.before {
						if !row.kept && !conn.isClosed() {
							t.Errorf("connection %d of before is still open; pool: %s", n, c.summary())
						}
					}
					if c.ending != nil && !ended(c.ending) {
						t.Error("the pool has not ended")
					}
				})
			})
		}
	}
}
