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
	withFixture(t, func(f *fixture) {
		elsewhere := f.target("elsewhere", pool("p"))
		elsewhere.Namespace = "other"
		begin := time.Now()
		f.ensure(f.target("web", pool("p")), elsewhere)
		sleep(time.Second)
		if _, err := f.exec(request("p", "web")); err != nil {
			t.Fatal(err)
		}
		sleep(time.Second)
		lease := f.acquire(request("p", "web"))
		info := f.live(host("web"))[0].Info()
		want := []Connection{{
			Pool: ref("p"), Target: ref("web"), Type: "fake", ID: lease.ID(), State: connpool.Leased,
			Created: begin, LastUsed: begin.Add(time.Second), Uses: 1, Leases: 1, Info: info,
		}}
		if diff := cmp.Diff(want, f.set.Connections("default"), cmpopts.EquateApproxTime(time.Millisecond)); diff != "" {
			t.Errorf("of one namespace (-want +got):\n%s", diff)
		}
		lease.Release()
		if got := f.set.Connections(""); len(got) != 2 {
			t.Errorf("%d of all namespaces, want 2", len(got))
		}
		for _, c := range f.set.Connections("other") {
			if c.Target.Name != "elsewhere" || c.State != connpool.Idle || !c.LastUsed.Equal(c.Created) {
				t.Errorf("one that was never used: %+v", c)
			}
		}
		f.set.Remove("web-uid")
		if got := f.set.Connections("default"); len(got) != 0 {
			t.Errorf("%d after its target was removed", len(got))
		}
	})
}

func TestOneConnectionIsReplacedThenDrained(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("web", pool("p")))
		lease := f.acquire(request("p", "web"))
		old := lease.ID()
		if !f.set.Recycle("p-uid", "web-uid", old) {
			t.Fatal("not found")
		}
		sleep(0)
		var states []connpool.State
		for _, c := range f.set.Connections("") {
			states = append(states, c.State)
		}
		if diff := cmp.Diff([]connpool.State{connpool.Draining, connpool.Idle}, states); diff != "" {
			t.Errorf("while it is used (-want +got):\n%s", diff)
		}
		lease.Release()
		sleep(0)
		if got := f.set.Connections(""); len(got) != 1 || got[0].ID == old {
			t.Errorf("%+v, want the successor only", got)
		}
		if f.set.Recycle("p-uid", "web-uid", old) || f.set.Recycle("p-uid", "none", old) || f.set.Recycle("none", "web-uid", old) {
			t.Error("something is recycled that is not there")
		}
	})
}

func TestAPoolIsReplacedWithoutAnyOther(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.ensure(f.target("a", pool("p", minWarm(2)), pool("q")), f.target("b", pool("p")))
		if got := f.set.RecyclePool("p-uid"); got != 3 {
			t.Errorf("%d recycled, want 3", got)
		}
		sleep(0)
		f.wantDials(4+3, everything)
		f.wantLive(4, everything)
		kept := slices.DeleteFunc(f.set.Connections(""), func(c Connection) bool { return c.Pool.Name != "q" })
		if len(kept) != 1 || kept[0].ID != 1 {
			t.Errorf("the other pool has %+v", kept)
		}
		if got := f.set.RecyclePool("none"); got != 0 {
			t.Errorf("%d recycled of no pool", got)
		}
	})
}
