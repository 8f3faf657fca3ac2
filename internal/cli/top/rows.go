package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
)

// row is a connection, the sum of all connections of a pool, or a target that fails.
type row struct {
	namespace, name, pool, target, state string
	// fails says that the row is a target that fails. Its state is the reason, and made
	// is since when.
	fails bool

	connections int
	// failing is how many targets of a pool fail.
	failing int
	inUse   int32
	uses    int64
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
	// pools are what the operator says of pools, and failing the targets that fail, the
	// longest failing first. dialing is how many connections are being made.
	pools, failing []row
	dialing        int32
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

// with adds what the operator says of pools: which of their targets fail.
func (s snapshot) with(pools []v1alpha1.ConnectionPool) snapshot {
	for i := range pools {
		p := &pools[i]
		failing := max(len(p.Status.FailingTargets), int(ptr.Deref(p.Status.Targets.Failing, 0))) // at most ten are named
		s.pools = append(s.pools, row{namespace: p.Namespace, name: p.Name, pool: p.Name, failing: failing})
		for _, f := range p.Status.FailingTargets {
			s.failing = append(s.failing, row{
				namespace: p.Namespace, pool: p.Name, target: f.Name, state: f.Reason, fails: true, made: ptr.Deref(f.Since, metav1.Time{}),
			})
		}
	}
	slices.SortStableFunc(s.failing, func(a, b row) int { return a.made.Compare(b.made.Time) })
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
	rows := slices.Clone(s.pools)
	for i := range rows {
		pools[rows[i].namespace+"/"+rows[i].pool] = i
	}
	for i := range s.rows {
		r := &s.rows[i]
		key := r.namespace + "/" + r.pool
		at, ok := pools[key]
		if !ok {
			at = len(rows)
			pools[key] = at
			rows = append(rows, row{namespace: r.namespace, name: r.pool, pool: r.pool})
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
	r.hasRate = r.hasRate || c.hasRate
	r.roundTrip = max(r.roundTrip, c.roundTrip)
	if r.made.IsZero() || c.made.Before(&r.made) {
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
	byUses: func(a, b *row) int { return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(b.uses, a.uses)) },
	byAge: func(a, b *row) int {
		return cmp.Or(compareBool(b.made.IsZero(), a.made.IsZero()), a.made.Compare(b.made.Time))
	},
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

// rows returns what is shown, in its order. What fails comes first in each of them.
func (v view) rows(s snapshot) []row {
	rows := slices.Clone(s.rows)
	if v.pools {
		rows = s.byPool()
	}
	slices.SortFunc(rows, func(a, b row) int {
		decided := cmp.Or(orders[v.by](&a, &b), strings.Compare(a.pool, b.pool), strings.Compare(a.target, b.target),
			strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
		if v.reverse {
			decided = -decided
		}
		return cmp.Or(compareBool(b.failing > 0, a.failing > 0), decided)
	})
	if v.pools {
		return rows
	}
	return append(slices.Clone(s.failing), rows...)
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// table returns the table of rows. A page marks the column that it is sorted by.
func (v view) table(rows []row, now time.Time, paint display.Paint, isPage bool) *display.Table {
	age := "AGE"
	if v.pools {
		age = "OLDEST"
	}
	columns := []string{
		"NAMESPACE", "NAME", "POOL", "TARGET", "STATE", "CONNECTIONS", "FAILING", "IN-USE", "USES", "USES/S", "RTT", age,
	}
	colors := map[string]func(string) string{"STATE": colorOfState, "FAILING": colorOfFailing}
	t := &display.Table{Columns: columns, Paint: paint, Colors: colors}
	t.ShowOnlyIf(v.namespaces, "NAMESPACE")
	t.ShowOnlyIf(v.pools, "CONNECTIONS", "FAILING")
	t.ShowOnlyIf(!v.pools, "NAME", "TARGET", "STATE")
	if isPage {
		v.mark(columns)
	}
	for i := range rows {
		t.Add(rows[i].cells(now)...)
	}
	return t
}

// sorted are the columns by which rows are sorted.
var sorted = map[sortKey][]string{
	byUses: {"USES/S"}, byAge: {"AGE", "OLDEST"}, byInUse: {"IN-USE"}, byRoundTrip: {"RTT"}, byName: {"POOL"},
}

// mark marks the column that rows are sorted by, and the direction.
func (v view) mark(columns []string) {
	arrow := "▼"
	if v.reverse != (v.by == byName) {
		arrow = "▲"
	}
	for i, column := range columns {
		if slices.Contains(sorted[v.by], column) {
			columns[i] += arrow
		}
	}
}

func (r *row) cells(now time.Time) []string {
	connections, inUse, uses := strconv.Itoa(r.connections), strconv.Itoa(int(r.inUse)), strconv.FormatInt(r.uses, 10)
	if r.fails {
		connections, inUse, uses = "", "", ""
	}
	return []string{
		r.namespace, r.name, r.pool, r.target, r.state, connections, strconv.Itoa(r.failing), inUse, uses, r.perSecond(),
		display.MicrosOrNone(r.roundTrip), display.Ago(&r.made, now),
	}
}

func colorOfState(state string) string {
	switch livev1alpha1.ConnectionState(state) {
	case livev1alpha1.ConnectionIdle:
		return ""
	case livev1alpha1.ConnectionInUse:
		return display.Green
	case livev1alpha1.ConnectionDraining:
		return display.Yellow
	default:
		return display.Red
	}
}

func colorOfFailing(count string) string {
	if count == "0" {
		return ""
	}
	return display.Red
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
	if s.dialing > 0 {
		parts = append(parts, fmt.Sprintf("%d dialing", s.dialing))
	}
	failing := 0
	for i := range s.pools {
		failing += s.pools[i].failing
	}
	if failing > 0 {
		parts = append(parts, display.Count(failing, "target fails", "targets fail"))
	}
	line := strings.Join(parts, ", ")
	if hasRate {
		line += fmt.Sprintf("; %.1f uses/s", rate)
	}
	return line
}
