package poolset

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/connpool/connpool/internal/connpool"
)

func TestConnectionsAreListedAsTheyAre(t *testing.T) {
	inWorld(t, func(w *world) {
		elsewhere := w.target("elsewhere", pool("p"))
		elsewhere.Namespace = "other"
		begin := time.Now()
		w.ensure(w.target("web", pool("p")), elsewhere)
		sleep(time.Second)
		if _, err := w.exec(request("p", "web")); err != nil {
			t.Fatal(err)
		}
		sleep(time.Second)
		lease := w.acquire(request("p", "web"))
		info := w.live(host("web"))[0].Info()
		want := []Connection{{
			Pool: ref("p"), Target: ref("web"), Type: "fake", ID: lease.ID(), State: connpool.Leased,
			Created: begin, LastUsed: begin.Add(time.Second), Uses: 1, Leases: 1, Info: info,
		}}
		if diff := cmp.Diff(want, w.set.Connections("default"), cmpopts.EquateApproxTime(time.Millisecond)); diff != "" {
			t.Errorf("of one namespace (-want +got):\n%s", diff)
		}
		lease.Release()
		if got := w.set.Connections(""); len(got) != 2 {
			t.Errorf("%d of all namespaces, want 2", len(got))
		}
		for _, c := range w.set.Connections("other") {
			if c.Target.Name != "elsewhere" || c.State != connpool.Idle || !c.LastUsed.Equal(c.Created) {
				t.Errorf("one that was never used: %+v", c)
			}
		}
		w.set.Remove("web-uid")
		if got := w.set.Connections("default"); len(got) != 0 {
			t.Errorf("%d after its target was removed", len(got))
		}
	})
}

func TestOneConnectionIsReplacedThenRetired(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("web", pool("p")))
		lease := w.acquire(request("p", "web"))
		old := lease.ID()
		if !w.set.Recycle("p-uid", "web-uid", old) {
			t.Fatal("not found")
		}
		sleep(0)
		var states []connpool.State
		for _, c := range w.set.Connections("") {
			states = append(states, c.State)
		}
		if diff := cmp.Diff([]connpool.State{connpool.Draining, connpool.Idle}, states); diff != "" {
			t.Errorf("while it is used (-want +got):\n%s", diff)
		}
		lease.Release()
		sleep(0)
		if got := w.set.Connections(""); len(got) != 1 || got[0].ID == old {
			t.Errorf("%+v, want the successor only", got)
		}
		if w.set.Recycle("p-uid", "web-uid", old) || w.set.Recycle("p-uid", "none", old) || w.set.Recycle("none", "web-uid", old) {
			t.Error("something is recycled that is not there")
		}
	})
}

func TestAPoolIsReplacedWithoutAnyOther(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ensure(w.target("a", pool("p", minWarm(2)), pool("q")), w.target("b", pool("p")))
		if got := w.set.RecyclePool("p-uid"); got != 3 {
			t.Errorf("%d recycled, want 3", got)
		}
		sleep(0)
		w.wantDials(4+3, everything)
		w.wantLive(4, everything)
		kept := slices.DeleteFunc(w.set.Connections(""), func(c Connection) bool { return c.Pool.Name != "q" })
		if len(kept) != 1 || kept[0].ID != 1 {
			t.Errorf("the other pool has %+v", kept)
		}
		if got := w.set.RecyclePool("none"); got != 0 {
			t.Errorf("%d recycled of no pool", got)
		}
	})
}
