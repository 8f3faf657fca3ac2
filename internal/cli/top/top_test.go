package top

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connectionOf returns a connection of the given age in minutes.
func connectionOf(name, pool string, inUse int32, uses, roundTrip int64, age int) livev1alpha1.Connection {
	state := livev1alpha1.ConnectionIdle
	if inUse > 0 {
		state = livev1alpha1.ConnectionInUse
	}
	return livev1alpha1.Connection{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(age)},
		Pool:       pool, Target: pool + "-1", State: state, InUse: inUse, UseCount: uses, RoundTripMicroseconds: roundTrip,
	}
}

// twoSnapshots are 2 seconds apart: a is fast and old, b busy and slow, c new.
func twoSnapshots() (before, now snapshot) {
	before = newSnapshot(clitest.Noon.Add(-2*time.Second), []livev1alpha1.Connection{
		connectionOf("a", "web", 0, 100, 200, 50),
		connectionOf("b", "web", 0, 10, 900, 20),
	})
	now = newSnapshot(clitest.Noon, []livev1alpha1.Connection{
		connectionOf("a", "web", 0, 101, 200, 50),
		connectionOf("b", "web", 3, 30, 900, 20),
		connectionOf("c", "db", 1, 4, 0, 0),
	})
	return before, now
}

func TestRatesAreDifferencesOfTwoSnapshots(t *testing.T) {
	before, now := twoSnapshots()
	got := map[string]float64{}
	for _, r := range now.since(before).rows {
		got[r.name] = r.rate
	}
	if diff := cmp.Diff(map[string]float64{"a": 0.5, "b": 10, "c": 2}, got); diff != "" {
		t.Errorf("uses per second (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		name   string
		before snapshot
	}{
		{"nothing came before", snapshot{}},
		{"no time has passed", snapshot{at: clitest.Noon, rows: before.rows}},
		{"the clock was set back", snapshot{at: clitest.Noon.Add(time.Hour), rows: before.rows}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, now := twoSnapshots()
			if r := now.since(c.before).rows[0]; r.hasRate {
				t.Errorf("the rate is said to be %f", r.rate)
			}
		})
	}
}

func TestRowsAreSortedByKeys(t *testing.T) {
	for _, c := range []struct{ name, keys, want string }{
		{"at first by uses per second", "", "b c a"},
		{"by age", "a", "a b c"},
		{"by uses now", "i", "b c a"},
		{"by round trip", "r", "b a c"},
		{"by pool, target and name", "n", "c a b"},
		{"reversed", "nR", "b a c"},
		{"reversed twice", "nRR", "c a b"},
		{"another order begins with the most again", "nRa", "a b c"},
		{"a key without meaning changes nothing", "ax\x1b[A", "a b c"},
		{"by pools", "p", "web db"},
		{"and back", "pp", "b c a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := view{by: byUses}
			for _, key := range []byte(c.keys) {
				var ok bool
				if view, ok = view.press(key); !ok {
					t.Fatalf("%q quits", key)
				}
			}
			before, now := twoSnapshots()
			var names []string
			for _, r := range view.rows(now.since(before)) {
				names = append(names, r.name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("the order is %q, want %q", got, c.want)
			}
		})
	}
	for _, key := range []byte{'q', 3, 4} {
		if _, ok := (view{}).press(key); ok {
			t.Errorf("%q does not quit", key)
		}
	}
}

func TestPoolsSumUpTheirConnections(t *testing.T) {
	before, now := twoSnapshots()
	got := strings.Join(view{by: byUses, pools: true}.table(now.since(before)).Lines(), "\n")
	want := `POOL   CONNECTIONS   IN USE   USES   USES/S   RTT     OLDEST
web    2             3        131    10.5     900µs   50m
db     1             1        4      2.0      -       0s`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the pools (-want +got):\n%s", diff)
	}
}

func TestAPageFitsItsTerminal(t *testing.T) {
	_, now := twoSnapshots()
	for _, c := range []struct {
		name          string
		columns, rows uint16
		want          int
	}{
		{"a large one shows all", 200, 50, 7},
		{"a low one shows the first rows and the keys", 200, 5, 5},
		{"a narrow one cuts lines", 10, 50, 7},
		{"a tiny one shows something", 1, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := page(view{by: byUses}, now, "error: µ", client.Size{Columns: c.columns, Rows: c.rows})
			if len(lines) != c.want {
				t.Errorf("%d lines, want %d", len(lines), c.want)
			}
			for _, line := range lines {
				if len([]rune(line)) > int(c.columns) {
					t.Errorf("%q is too long", line)
				}
			}
		})
	}
}

func TestAFailedSampleLeavesThePageAsItWas(t *testing.T) {
	before, now := twoSnapshots()
	w := watcher{now: before}
	w.see(sample{err: errors.New("the cluster does not answer")})
	if w.problem == "" || len(w.now.rows) != 2 {
		t.Errorf("it shows %q and %d rows", w.problem, len(w.now.rows))
	}
	w.see(sample{snapshot: now})
	if w.problem != "" || len(w.now.rows) != 3 || !w.now.rows[0].hasRate {
		t.Errorf("it shows %q and %+v", w.problem, w.now.rows)
	}
}

func TestWithoutATerminalTheTableIsPrintedOnce(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Connections = []livev1alpha1.Connection{connectionOf("a", "web", 1, 5, 200, 50), connectionOf("b", "db", 0, 9, 0, 5)}
	clitest.Want(t, f.Run("top", "web"), 0, `NAME   POOL   TARGET   STATE   IN USE   USES   USES/S   RTT     AGE
a      web    web-1    InUse   1        5      -        200µs   50m
`)
	clitest.Want(t, f.Run("top", "-A", "--pools", "--sort", "n"), 0, `NAMESPACE   POOL   CONNECTIONS   IN USE   USES   USES/S   RTT     OLDEST
shop        db     1             0        9      -        -       5m
shop        web    1             1        5      -        200µs   50m
`)
	clitest.WantStderr(t, f.Run("top", "web", "-A"), 1, "exclude each other")
	clitest.WantStderr(t, f.Run("top", "--sort", "z"), 1, `--sort "z" is unknown`)
	clitest.WantStderr(t, f.Run("top", "--sort", ""), 1, `--sort "" is unknown`)
	clitest.WantStderr(t, f.Run("top", "--interval", "1ms"), 1, "too short")
	f.Denied["list live.connpool.dev/connections"] = true
	clitest.WantStderr(t, f.Run("top"), 1, "This would permit it", fmt.Sprintf("%q", "connections"))
}
