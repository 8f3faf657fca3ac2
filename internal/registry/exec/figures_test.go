package exec

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
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

func TestFailedUsesAreCountedByReasonAndOutcomeAndExitCodesAreNone(t *testing.T) {
	command := registrytest.Command("true")
	limited := registrytest.Command("true")
	limited.Spec.TimeoutSeconds = 1
	for name, test := range map[string]struct {
		does drivertest.ExecFunc
		sent any
		want []string
	}{
		"an exit code":                  {registrytest.Saying("", "", 3), command, nil},
		"a server that refuses":         {registrytest.Failing(&driver.Error{Reason: driver.NotFound}), command, []string{"team/web ssh: NotFound, NotStarted"}},
		"a connection that dies":        {registrytest.Failing(&driver.Error{Reason: driver.Unreachable, Started: true}), command, []string{"team/web ssh: Unreachable, Unknown"}},
		"a command beyond its time":     {registrytest.Lasting(nil), limited, []string{"team/web ssh: Timeout, Unknown"}},
		"a client that leaves":          {registrytest.Lasting(nil), command, []string{"team/web ssh: ClientGone, Unknown"}},
		"a request that makes no sense": {nil, "no object", []string{"team/web : BadRequest, NotStarted"}},
	} {
		t.Run(name, func(t *testing.T) {
			var figures registrytest.Figures
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(test.does)
				ctx, cancel := context.WithTimeoutCause(f.Context(), time.Minute, context.Canceled)
				defer cancel()
				f.Post(ctx, "web", test.sent)
				synctest.Wait()
				if diff := cmp.Diff(test.want, figures.Failures()); diff != "" {
					t.Error(diff)
				}
			}, figures.Meter)
		})
	}
}

func TestARefusalIsCountedOfATargetThatCannotBeUsedAndNotOfAUserWithoutPermission(t *testing.T) {
	var figures registrytest.Figures
	inFixture(t, func(f *fixture) {
		pool := f.Pool("ci", registrytest.OnlyFor("engine"))
		engine := func(target *v1alpha1.ConnectionTarget) {
			target.Spec = v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{}}
		}
		f.Target("engine", pool.Name, engine, f.Unusable("CredentialsInvalid", "the key has a passphrase"))
		f.Post(f.Context(), "ci", registrytest.Command("true")).WantRefusal(f, http.StatusServiceUnavailable)
		f.Authorizer.Decide(authorizer.DecisionDeny, nil)
		f.Post(f.Context(), "ci", registrytest.Command("true")).WantRefusal(f, http.StatusForbidden)
		if diff := cmp.Diff([]string{"team/ci docker: CredentialsInvalid, NotStarted"}, figures.Failures()); diff != "" {
			t.Error(diff)
		}
	}, figures.Meter)
}

func TestAUseOfWhichTheOperatorLosesTrackIsCountedOnce(t *testing.T) {
	var figures registrytest.Figures
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Fake.OnExec(func(context.Context, *drivertest.FakeConn, driver.Command, driver.Streams) (driver.ExitStatus, error) {
			panic("in the driver")
		})
		func() {
			defer func() { _ = recover() }()
			f.Post(f.Context(), "web", registrytest.Command("true"))
		}()
		if diff := cmp.Diff([]string{"team/web ssh: ProtocolError, Unknown"}, figures.Failures()); diff != "" {
			t.Error(diff)
		}
	}, figures.Meter)
}
