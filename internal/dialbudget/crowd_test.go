package dialbudget

import (
	"fmt"
	"testing"

	"github.com/connpool/connpool/internal/list"
)

// admitCrowd lets each of so many hosts behind one jump host wait, dial and end.
func admitCrowd(t testing.TB, hosts int) {
	t.Helper()
	b := New(30, 3, 6)
	route := func(host int) Route { return Route{"team", fmt.Sprint("host-", host), "bastion"} }
	callers := make([]*admission, hosts)
	for host := range callers {
		callers[host] = &admission{admitted: make(chan struct{})}
		b.enqueue(route(host), &list.Element[*admission]{Value: callers[host]}, ahead)
	}
	for host, caller := range callers {
		select {
		case <-caller.admitted:
		default:
			t.Fatalf("host %d was not admitted in its turn", host)
		}
		b.leave(route(host), caller, nil)
	}
}

func TestEachHostBehindACrowdedJumpHostHasItsTurn(t *testing.T) { admitCrowd(t, 1000) }

// BenchmarkCrowdBehindAJumpHost shows what one host costs in a crowd: the same in a small one
// as in a large one.
func BenchmarkCrowdBehindAJumpHost(b *testing.B) {
	for _, hosts := range []int{1000, 8000} {
		b.Run(fmt.Sprint(hosts, " hosts"), func(b *testing.B) {
			for b.Loop() {
				admitCrowd(b, hosts)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*hosts), "ns/host")
		})
	}
}
