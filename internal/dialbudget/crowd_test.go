package dialbudget

import (
	"fmt"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/list"
)

// admitCrowd lets each of so many hosts behind one jump host wait, dial and end, and
// returns how long the budget took for that: the least of some tries.
func admitCrowd(t *testing.T, hosts int) time.Duration {
	t.Helper()
	least := time.Duration(0)
	for try := range 5 {
		began := time.Now()
		admitAll(t, hosts)
		if took := time.Since(began); try == 0 || took < least {
			least = took
		}
	}
	return least
}

func admitAll(t *testing.T, hosts int) {
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

func TestAHostBehindACrowdedJumpHostCostsWhatItCostsInASmallCrowd(t *testing.T) {
	const few, many = 1000, 8000
	small, large := admitCrowd(t, few), admitCrowd(t, many)
	t.Logf("%d hosts: %v; %d hosts: %v", few, small, many, large)
	if large > 5*many/few*small {
		t.Errorf("%d hosts took %v, and %d took %v: more than five times as much for each", few, small, many, large)
	}
}
