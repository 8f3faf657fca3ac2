package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
)

// row is a connection, or the sum of all connections of a pool.
type row struct {
	namespace, name, pool, target, state string

	connections int
	inUse       int32
	uses        int64
	// rate is how many uses have ended per second since the snapshot before.
	rate      float64
	hasRate   bool
	roundTrip int64 // microseconds; 0 is unknown
	made      metav1.Time
}

// key identifies a row from one snapshot to the next.
func (r *row) key() string { return r.namespace + "/" + r.name }

// snapshot is what the live API said at a time.
type snapshot struct {
	at   time.Time
	rows []row
}

func newSnapshot(at time.Time, connections []livev1alpha1.Connection) snapshot {
	s := snapshot{at: at, rows: make([]row, 0, len(connections))}
	for i := range connections {
		c := &connections[i]
		s.rows = append(s.rows, row{
			namespace: c.Namespace, name: c.Name, pool: c.Pool, target: c.Target, state: string(c.State),
			connections: 1, inUse: c.InUse, uses: c.UseCount, roundTrip: c.RoundTripMicroseconds, made: c.CreationTimestamp,
		})
	}
	return s
}

// since fills in the rates from the snapshot before. A new connection has had all
// its uses since then.
func (s snapshot) since(before snapshot) snapshot {
	seconds := s.at.Sub(before.at).Seconds()
	if before.at.IsZero() || seconds <= 0 {
		return s
	}
	uses := make(map[string]int64, len(before.rows))
	for i := range before.rows {
		uses[before.rows[i].key()] = before.rows[i].uses
	}
	for i := range s.rows {
		r := &s.rows[i]
		r.rate, r.hasRate = float64(max(r.uses-uses[r.key()], 0))/seconds, true
	}
	return s
}

// byPool adds connections up.
func (s snapshot) byPool() []row {
	pools := map[string]int{}
	var rows []row
	for i := range s.rows {
		r := &s.rows[i]
		key := r.namespace + "/" + r.pool
		at, ok := pools[key]
		if !ok {
			at = len(rows)
			pools[key] = at
			rows = append(rows, row{namespace: r.namespace, name: r.pool, pool: r.pool, made: r.made, hasRate: r.hasRate})
		}
		rows[at].add(r)
	}
	return rows
}

// add adds a connection to the row of its pool, which shows the oldest age and the
// slowest round trip.
func (r *row) add(c *row) {
	r.connections += c.connections
	r.inUse += c.inUse
	r.uses += c.uses
	r.rate += c.rate
	r.roundTrip = max(r.roundTrip, c.roundTrip)
	if c.made.Before(&r.made) {
		r.made = c.made
	}
}

// sortKey is what rows are sorted by, and the key on the keyboard that chooses it.
type sortKey byte

// The orders. Each but byName begins with the largest value.
const (
	byUses      sortKey = 'u'
	byAge       sortKey = 'a'
	byInUse     sortKey = 'i'
	byRoundTrip sortKey = 'r'
	byName      sortKey = 'n'
)

var orders = map[sortKey]func(a, b *row) int{
	byUses:      func(a, b *row) int { return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(b.uses, a.uses)) },
	byAge:       func(a, b *row) int { return a.made.Compare(b.made.Time) },
	byInUse:     func(a, b *row) int { return cmp.Compare(b.inUse, a.inUse) },
	byRoundTrip: func(a, b *row) int { return cmp.Compare(b.roundTrip, a.roundTrip) },
	byName:      func(_, _ *row) int { return 0 },
}

// view is what the user has chosen to see.
type view struct {
	by         sortKey
	reverse    bool
	pools      bool
	namespaces bool // more than one
}

// press changes the view by a key; false means to quit.
func (v view) press(key byte) (view, bool) {
	const ctrlC, ctrlD = 3, 4
	switch {
	case key == 'q' || key == ctrlC || key == ctrlD:
		return v, false
	case key == 'R':
		v.reverse = !v.reverse
	case key == 'p':
		v.pools = !v.pools
	case orders[sortKey(key)] != nil:
		v.by, v.reverse = sortKey(key), false
	}
	return v, true
}

func (v view) rows(s snapshot) []row {
	rows := slices.Clone(s.rows)
	if v.pools {
		rows = s.byPool()
	}
	slices.SortFunc(rows, func(a, b row) int {
		decided := cmp.Or(orders[v.by](&a, &b), strings.Compare(a.pool, b.pool), strings.Compare(a.target, b.target),
			strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
		if v.reverse {
			return -decided
		}
		return decided
	})
	return rows
}

func (v view) table(s snapshot) *display.Table {
	age := "AGE"
	if v.pools {
		age = "OLDEST"
	}
	t := &display.Table{Columns: []string{
		"NAMESPACE", "NAME", "POOL", "TARGET", "STATE", "CONNECTIONS", "IN USE", "USES", "USES/S", "RTT", age,
	}}
	t.ShowOnlyIf(v.namespaces, "NAMESPACE")
	t.ShowOnlyIf(v.pools, "CONNECTIONS")
	t.ShowOnlyIf(!v.pools, "NAME", "TARGET", "STATE")
	for _, r := range v.rows(s) {
		t.Add(r.namespace, r.name, r.pool, r.target, r.state, strconv.Itoa(r.connections), strconv.Itoa(int(r.inUse)),
			strconv.FormatInt(r.uses, 10), r.perSecond(), display.MicrosOrNone(r.roundTrip), display.Ago(&r.made, s.at))
	}
	return t
}

func (r *row) perSecond() string {
	if !r.hasRate {
		return display.None
	}
	return fmt.Sprintf("%.1f", r.rate)
}

// summary is the line above the table.
func (s snapshot) summary() string {
	states := map[string]int{}
	rate, hasRate := 0.0, false
	for i := range s.rows {
		states[s.rows[i].state]++
		rate += s.rows[i].rate
		hasRate = hasRate || s.rows[i].hasRate
	}
	parts := []string{display.Count(len(s.rows), "connection", "connections")}
	for _, state := range cluster.ConnectionStates {
		if states[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
		}
	}
	line := strings.Join(parts, ", ")
	if hasRate {
		line += fmt.Sprintf("; %.1f uses/s", rate)
	}
	return line
}
