package exec

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apiserver/pkg/authentication/user"
	endpoints "k8s.io/apiserver/pkg/endpoints/request"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

func containers(names ...string) inventory.Places {
	var places inventory.Places
	for _, name := range names {
		places.Containers = append(places.Containers, inventory.Container{Name: name})
	}
	return places
}

func TestACommandWithoutAContainerRunsInTheOnlyOne(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("ci", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Fake.OnList(having(containers("web")))
		got := f.Post(f.Context(), "web", registrytest.Command("true"))
		got.WantOutcome(f, live.OutcomeCompleted)
		if got.Exec.Status.Container != "web" || got.Exec.Spec.Container != "" {
			t.Errorf("it ran in %q of %q", got.Exec.Status.Container, got.Exec.Spec.Container)
		}
		if ran := f.Fake.Live()[0].Execs(); len(ran) != 1 || ran[0].Place.Container != "web" {
			t.Errorf("it ran as %+v", ran)
		}
		if !strings.Contains(f.Audit(), `"container"="web"`) || f.Leases() != 0 {
			t.Errorf("audit %s", f.Audit())
		}
		named := registrytest.Command("true")
		named.Spec.Container = "web"
		if got := f.Post(f.Context(), "web", named); got.Exec.Status.Container != "" {
			t.Errorf("%q was not chosen", got.Exec.Status.Container)
		}
	})
}

func TestACommandThatDoesNotSayWhereIsToldWhatRuns(t *testing.T) {
	pods := inventory.Places{Pods: []inventory.Pod{{Name: "web-0"}, {Name: "web-1"}}}
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("c%02d", i))
	}
	for name, test := range map[string]struct {
		list drivertest.ListFunc
		pod  bool
		want string
	}{
		"several containers": {having(containers("web", "db")), false, "name the container; running on ci: web, db"},
		"many containers":    {having(containers(many...)), false, "running on ci: c00, c01, c02, c03, c04, c05, c06, c07, +12 more"},
		"no container":       {having(containers()), false, "no container runs on ci; start one"},
		"pods":               {having(pods), true, "name the pod; running on ci: web-0, web-1"},
		"one pod":            {having(inventory.Places{Pods: pods.Pods[:1]}), true, "name the pod; running on ci: web-0"},
		"an engine that does not say": {
			func(context.Context, *drivertest.FakeConn, inventory.Query) (*inventory.Places, error) {
				return nil, driver.Errorf(driver.Forbidden, driver.StageRun, "the engine forbids it")
			}, false, "name the container; those that run on ci cannot be listed: the engine forbids it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				kind, at := registrytest.Docker, "spec.container"
				if test.pod {
					kind, at = registrytest.Kubernetes, "spec.pod"
				}
				f.Connect(f.Target("ci", "web", kind), f.Pool("web", registrytest.LeastLoaded))
				f.Fake.OnList(test.list)
				got := f.Post(f.Context(), "web", registrytest.Command("true"))
				got.WantRefusal(f, http.StatusBadRequest, test.want)
				if strings.Contains(got.Status.Message, "Required value") || got.Status.Details.Causes[0].Field != at {
					t.Errorf("message %q, causes %+v", got.Status.Message, got.Status.Details.Causes)
				}
				synctest.Wait() // a connection that may be to blame is proved before its slot is free
				if f.Execs() != 0 || f.Leases() != 0 || !f.Idle() {
					t.Error("something ran, or is held")
				}
			})
		})
	}
}

func TestAnUpgradeSaysWhichContainerWasChosen(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("ci", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Fake.OnList(having(containers("web")))
		u, backend, err := InPools(f.Gate)(endpoints.WithUser(endpoints.WithNamespace(f.Context(), registrytest.Namespace), &user.DefaultInfo{Name: "alice"}), "web")
		if err != nil {
			t.Fatal(err)
		}
		runner, err := backend.Open(f.Context(), &Command{Command: driver.Command{Argv: []string{"true"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer runner.Close()
		header := http.Header{}
		runner.Lease().Announce(header, u.RequestID)
		if got := header.Get("Connpool-Container"); got != "web" {
			t.Errorf("announced %q", got)
		}
		if _, err := runner.Run(f.Context(), driver.Command{}, driver.Streams{}); err != nil || runner.Lease().Container != "web" {
			t.Errorf("afterwards %+v, error %v", runner.Lease(), err)
		}
		if u.Place.Container != "web" {
			t.Errorf("place %+v", u.Place)
		}
	})
}
