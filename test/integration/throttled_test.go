package integration

import (
	"testing"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/netfault"
)

// F18.
func TestAServerThatPenalizesUsIsLeftAloneWhileWarmConnectionsServe(t *testing.T) {
	server := startSSHD(t)
	proxy, err := netfault.Start(server.Addr, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f := warm(t, through(server, proxy), size(1, 2), func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.SessionsPerConnection = new(int32(1))
		spec.Acquire.TimeoutSeconds = new(int32(5))
	})
	proxy.Set(netfault.Penalize)
	lease, err := env.pools.Acquire(t.Context(), f.request())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := env.pools.Acquire(t.Context(), f.request()); err == nil {
		second.Release()
		t.Fatal("a second connection was made by a server that penalizes us")
	}
	lease.Release()
	told := proxy.Accepted()

	// Another target on that server is not dialed either.
	other := target(f.target.Namespace, "other", through(server, proxy), "web-ssh")
	create(t, other, pool(f.target.Namespace, "other", "other", size(3, 3)))
	found := condition(t, 15*time.Second, other, v1alpha1.ConditionReady, no, v1alpha1.ReasonThrottledByServer)
	condition(t, time.Second, other, v1alpha1.ConditionReconciling, yes, v1alpha1.ReasonRetrying)
	condition(t, 15*time.Second, f.target, v1alpha1.ConditionReachable, no, v1alpha1.ReasonThrottledByServer)
	for begun := time.Now(); time.Since(begun) < 10*time.Second; {
		f.mustEcho(t, "still here")
	}
	if n := proxy.Accepted(); n != told {
		t.Errorf("%d dials while the penalty lasts (%s)", n-told, found.Message)
	}
	condition(t, time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if failures := observe(f.pool, f.target).DialFailures[driver.ThrottledByServer]; failures != 1 {
		t.Errorf("%d dials were throttled, want 1", failures)
	}

	// A user who knows that the penalty is over need not wait: a check dials at once.
	proxy.Set(netfault.None)
	if found := checkTarget(t, env.config, other); !found.Ready {
		t.Errorf("a check says %s", stagesOf(found))
	}
	condition(t, 15*time.Second, other, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}
