package history

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

const plenty = 1 << 30

func use(namespace, user string) live.Use {
	return live.Use{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Pool: "web", User: user, Action: live.UseExec}
}

// ended remembers n uses of a namespace that have ended.
func ended(h *History, namespace string, n int) {
	for i := range n {
		h.Begin(use(namespace, fmt.Sprint(namespace, "-", i)), nil).End(func(*live.Use) {})
	}
}

func users(all []Numbered) (names []string) {
	for _, u := range all {
		names = append(names, u.User)
	}
	return names
}

func TestAUseIsListedWhileItRunsAndAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(plenty)
		entry := h.Begin(use("team", "alice"), func() (in, out int64) { return 7, 9 })
		time.Sleep(3 * time.Second)
		running := h.List("team")[0]
		if running.State != live.UseRunning || running.EndTime != nil || running.DurationMicroseconds != 3e6 || running.BytesIn != 7 || running.BytesOut != 9 {
			t.Errorf("while it runs it is %+v", running)
		}
		entry.End(func(u *live.Use) { u.Outcome = live.OutcomeCompleted })
		entry.End(func(u *live.Use) { u.Outcome = live.OutcomeUnknown })
		time.Sleep(time.Minute)
		after := h.List("team")[0]
		if after.State != live.UseEnded || after.Outcome != live.OutcomeCompleted || after.DurationMicroseconds != 3e6 || after.BytesOut != 9 ||
			after.EndTime.Sub(after.CreationTimestamp.Time) != 3*time.Second || after.Name != running.Name {
			t.Errorf("when it has ended it is %+v", after)
		}
	})
}

func TestTheNewestUsesComeFirst(t *testing.T) {
	h := New(plenty)
	long := h.Begin(use("a", "first"), nil)
	h.Refuse(use("b", "second"))
	h.Begin(use("a", "third"), nil)
	long.End(func(*live.Use) {})
	if got := strings.Join(users(h.List("")), " "); got != "third second first" {
		t.Errorf("all are %s", got)
	}
	if got := strings.Join(users(h.List("a")), " "); got != "third first" {
		t.Errorf("those of a are %s", got)
	}
}

func TestEachNamespaceKeepsItsNewestUses(t *testing.T) {
	h := New(plenty)
	running := h.Begin(use("team", "running"), nil)
	ended(h, "team", PerNamespace+5)
	all := h.List("team")
	if len(all) != PerNamespace+1 || all[len(all)-2].User != "team-5" || all[len(all)-1].User != "running" {
		t.Errorf("%d are left, the oldest by %s", len(all), all[len(all)-2].User)
	}
	running.End(func(*live.Use) {})
}

func TestATenantCannotPushOutTheUsesOfAnother(t *testing.T) {
	size := int64(1200)
	h := New(100 * size)
	ended(h, "quiet", 10)
	for i := range 20 {
		ended(h, fmt.Sprint("loud-", i%3), 500)
	}
	if got := len(h.List("quiet")); got != 10 {
		t.Errorf("%d of 10 uses of the quiet namespace are left", got)
	}
	if h.held > h.bytes {
		t.Errorf("%d bytes are held, more than %d", h.held, h.bytes)
	}
	if got := len(h.List("")); got < 50 {
		t.Errorf("only %d uses are left", got)
	}
}

func TestWhatIsForgottenLeavesNothing(t *testing.T) {
	h := New(1)
	ended(h, "team", 10)
	h.Refuse(use("other", "bob"))
	if len(h.namespaces) != 0 || h.held != 0 {
		t.Errorf("%d namespaces and %d bytes are left", len(h.namespaces), h.held)
	}
}

func TestLongWordsAreCut(t *testing.T) {
	h := New(plenty)
	long := use("team", "alice")
	long.Path, long.Command = strings.Repeat("p", 1<<20), []string{"echo", strings.Repeat("a", 1500), strings.Repeat("b", 1500), "c"}
	h.Begin(long, nil)
	got := h.List("team")[0]
	if len(got.Path) > maxWord+3 || !strings.HasSuffix(got.Path, "p...") {
		t.Errorf("the path has %d bytes", len(got.Path))
	}
	if len(got.Command) != 3 || got.Command[0] != "echo" || got.Command[2] != "..." {
		t.Errorf("the command has %d words", len(got.Command))
	}
}

func TestTheHistoryIsSafeForConcurrentUse(t *testing.T) {
	h := New(50_000)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 200 {
				entry := h.Begin(use(fmt.Sprint(i%3), "alice"), func() (in, out int64) { return 1, 1 })
				h.List("")
				entry.End(func(u *live.Use) { u.Reason = "Unreachable" })
			}
		})
	}
	all.Wait()
}

func BenchmarkAUse(b *testing.B) {
	h := New(7 << 20)
	b.ReportAllocs()
	for b.Loop() {
		h.Begin(use("team", "alice"), func() (in, out int64) { return 1, 1 }).End(func(*live.Use) {})
	}
}
