package top

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
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
	now, pools := now.since(before), view{by: byUses, pools: true}
	got := strings.Join(pools.table(pools.rows(now), now.at, false, false).Lines(), "\n")
	want := `POOL   CONNECTIONS   FAILING   IN-USE   USES   USES/S   RTT     OLDEST
web    2             0         3        131    10.5     900µs   50m
db     1             0         1        4      2.0      -       0s`
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
			lines := page(view{by: byUses}, now, "error: µ", client.Size{Columns: c.columns, Rows: c.rows}, true)
			if len(lines) != c.want {
				t.Errorf("%d lines, want %d", len(lines), c.want)
			}
			for _, line := range lines {
				if len([]rune(plain(line))) > int(c.columns) {
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
	clitest.Want(t, f.Run("top", "web"), 0, `NAME   POOL   TARGET   STATE                  IN-USE   USES   USES/S   RTT     AGE
-      web    web-2    AuthenticationFailed   -        -      -        -       12m
a      web    web-1    InUse                  1        5      -        200µs   50m
`)
	clitest.Want(t, f.Run("top", "-A", "--pools", "--sort", "n"), 0, `NAMESPACE   POOL   CONNECTIONS   FAILING   IN-USE   USES   USES/S   RTT     OLDEST
shop        web    1             1         1        5      -        200µs   50m
shop        db     1             0         0        9      -        -       5m
other       new    0             0         0        0      -        -       -
`)
	clitest.WantStderr(t, f.Run("top", "wob"), 1, `"wob"`, "Did you mean web?")
	clitest.WantStderr(t, f.Run("top", "web", "-A"), 1, "cannot be used together")
	clitest.WantStderr(t, f.Run("top", "--sort", "z"), 1, `--sort "z" is not a valid key`)
	clitest.WantStderr(t, f.Run("top", "--sort", ""), 1, `--sort "" is not a valid key`)
	clitest.WantStderr(t, f.Run("top", "--interval", "1ms"), 1, "too short")
	f.Denied["list live.connpool.dev/connections"] = true
	clitest.WantStderr(t, f.Run("top"), 1, "This would permit it", fmt.Sprintf("%q", "connections"))
}

// plain returns a line without its colors.
func plain(line string) string {
	return regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, "")
}

// failingPool has six failing targets of seven, of which it names two and two still serve.
func failingPool() v1alpha1.ConnectionPool {
	return v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop"},
		Status: v1alpha1.ConnectionPoolStatus{
			Targets: v1alpha1.TargetCounts{Total: new(int32(7)), Ready: new(int32(3)), Failing: new(int32(6))},
			FailingTargets: []v1alpha1.FailingTarget{
				{Name: "db-2", Reason: "Timeout", Since: clitest.MinutesAgo(3)}, {Name: "db-1", Reason: "Unreachable", Since: clitest.MinutesAgo(9)},
			},
		},
	}
}

func TestWhatFailsComesFirstInEveryOrder(t *testing.T) {
	before, now := twoSnapshots()
	now = now.since(before).with([]v1alpha1.ConnectionPool{failingPool(), {ObjectMeta: metav1.ObjectMeta{Name: "idle", Namespace: "shop"}}})
	now.dialing = 2
	for _, keys := range []string{"", "a", "i", "r", "n", "nR", "uR"} {
		view := view{by: byUses}
		for _, key := range []byte(keys) {
			view, _ = view.press(key)
		}
		rows := view.rows(now)
		if len(rows) != 5 || rows[0].target != "db-1" || rows[1].target != "db-2" {
			t.Errorf("%q begins with %s and %s", keys, rows[0].target, rows[1].target)
		}
		view, _ = view.press('p')
		if rows := view.rows(now); rows[0].pool != "db" || len(rows) != 3 {
			t.Errorf("%q of pools begins with %s, of %d", keys, rows[0].pool, len(rows))
		}
	}
	if got, want := now.summary(), "3 connections, 1 Idle, 2 InUse, 2 dialing, 6 targets fail; 12.5 uses/s"; got != want {
		t.Errorf("the summary is %q, want %q", got, want)
	}
}

func TestAPageSaysHowMuchItCutsAndHowItIsSorted(t *testing.T) {
	_, now := twoSnapshots()
	now = now.with([]v1alpha1.ConnectionPool{failingPool()})
	for keys, mark := range map[string]string{
		"": "USES/S▼", "uR": "USES/S▲", "a": "AGE▼", "i": "IN-USE▼", "r": "RTT▼", "n": "POOL▲", "nR": "POOL▼", "ap": "OLDEST▼",
	} {
		view := view{by: byUses}
		for _, key := range []byte(keys) {
			if keys == "uR" && key == 'u' {
				continue
			}
			view, _ = view.press(key)
		}
		lines := page(view, now, "", client.Size{Columns: 200, Rows: 6}, false)
		if !strings.Contains(lines[2], mark) {
			t.Errorf("%q: there is no %s in %q", keys, mark, lines[2])
		}
	}
	lines := page(view{by: byUses}, now, "", client.Size{Columns: 200, Rows: 6}, false)
	if len(lines) != 6 || !strings.Contains(lines[3], "db-1") || lines[4] != "+4 more" || lines[5] != keyHelp {
		t.Errorf("the page is %q", lines)
	}
	all := page(view{by: byUses}, now, "", client.Size{Columns: 200, Rows: 9}, false)
	if strings.Contains(strings.Join(all, "\n"), "more") || len(all) != 9 {
		t.Errorf("a page with room for all is %q", all)
	}
}

func TestStatesAreColoredAndLinesStillFit(t *testing.T) {
	_, now := twoSnapshots()
	now = now.with([]v1alpha1.ConnectionPool{failingPool()})
	lines := page(view{by: byUses}, now, "", client.Size{Columns: 30, Rows: 20}, true)
	if want := "-      db     db-1     \x1b[31mUnreach\x1b[0m"; lines[3] != want {
		t.Errorf("the line is %q, want %q", lines[3], want)
	}
	wide := strings.Join(page(view{by: byUses}, now, "", client.Size{Columns: 200, Rows: 20}, true), "\n")
	for _, want := range []string{"\x1b[31mUnreachable\x1b[0m", "\x1b[32mInUse\x1b[0m", "Idle  "} {
		if !strings.Contains(wide, want) {
			t.Errorf("there is no %q in %q", want, wide)
		}
	}
}
