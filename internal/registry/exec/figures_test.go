package exec

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

func TestTheOverheadOfACommandIsWithoutItsWaitForAConnectionAndWithoutItself(t *testing.T) {
	var figures registrytest.Figures
	inFixture(t, func(f *fixture) {
		one := func(policy *poolset.Policy) { policy.LeasesPerConn, policy.AcquireTimeout = 1, time.Minute }
		f.ConnectWith(f.Target("web-1", "web"), f.Fake, one, f.Pool("web", registrytest.LeastLoaded))
		other, err := f.Set.Acquire(f.Context(), poolset.Request{Pool: "pool-web"})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Second, other.Release)
		f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			time.Sleep(3 * time.Second)
			return driver.ExitStatus{}, nil
		})
		f.Authorizer.DecideBy(func(authorizer.Attributes) (authorizer.Decision, string, error) {
			time.Sleep(time.Second)
			return authorizer.DecisionAllow, "", nil
		})
		f.Objects.Reading = func() { time.Sleep(5 * time.Millisecond) }
		f.Post(f.Context(), "web", registrytest.Command("true")).WantOutcome(f, live.OutcomeCompleted)
		want := []string{"team/web ssh: a command started after 5ms"} // to read the pool
		if diff := cmp.Diff(want, figures.Taken()); diff != "" {
			t.Error(diff)
		}
	}, figures.Meter)
}
