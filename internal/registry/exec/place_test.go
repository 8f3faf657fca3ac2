package exec

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// in is a command for a place.
func in(place driver.Place) live.Exec {
	object := registrytest.Command("true")
	object.Spec.Container, object.Spec.Pod, object.Spec.Namespace = place.Container, place.Pod, place.Namespace
	return object
}

// placeQuery is the query of such a command in the stream form.
func placeQuery(place driver.Place) string {
	query := url.Values{"command": {"true"}, "stdout": {"1"}}
	for name, value := range map[string]string{"container": place.Container, "pod": place.Pod, "namespace": place.Namespace} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query.Encode()
}

func TestEachTypeHasItsPlaces(t *testing.T) {
	long := strings.Repeat("a", 254)
	for name, test := range map[string]struct {
		kind  func(*v1alpha1.ConnectionTarget)
		place driver.Place
		// words of the refusal; empty when the command runs.
		words []string
	}{
		"a host":                              {registrytest.SSH, driver.Place{}, nil},
		"a container on a host":               {registrytest.SSH, driver.Place{Container: "web"}, []string{"container: Forbidden", "web-1 is of type ssh", "leave the container out"}},
		"a pod on a host":                     {registrytest.SSH, driver.Place{Pod: "web"}, []string{"pod: Forbidden", "has no pods", "leave the pod out"}},
		"a namespace on a host":               {registrytest.SSH, driver.Place{Namespace: "web"}, []string{"namespace: Forbidden"}},
		"a container of an engine":            {registrytest.Docker, driver.Place{Container: "web_1.x-y"}, nil},
		"no container of an engine":           {registrytest.Docker, driver.Place{}, []string{"container: Required", "no container runs on web-1; start one"}},
		"a pod of an engine":                  {registrytest.Docker, driver.Place{Container: "web", Pod: "p"}, []string{"pod: Forbidden", "name a container instead"}},
		"a namespace of an engine":            {registrytest.Docker, driver.Place{Container: "web", Namespace: "n"}, []string{"namespace: Forbidden"}},
		"a container as the engine names it":  {registrytest.Docker, driver.Place{Container: "/web"}, nil},
		"a container with two slashes":        {registrytest.Docker, driver.Place{Container: "//web"}, []string{"container: Invalid", "name or ID"}},
		"a container with a slash":            {registrytest.Docker, driver.Place{Container: "a/../b"}, []string{"container: Invalid", "name or ID"}},
		"a container that is an option":       {registrytest.Docker, driver.Place{Container: "-rf"}, []string{"container: Invalid"}},
		"a container with a query":            {registrytest.Docker, driver.Place{Container: "a?b"}, []string{"container: Invalid"}},
		"a container with a line end":         {registrytest.Docker, driver.Place{Container: "a\n"}, []string{"container: Invalid"}},
		"a container with a long name":        {registrytest.Docker, driver.Place{Container: long}, []string{"container: Too long"}},
		"a pod":                               {registrytest.Kubernetes, driver.Place{Pod: "web-0"}, nil},
		"a container of a pod in a namespace": {registrytest.Kubernetes, driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"}, nil},
		"no pod of a cluster":                 {registrytest.Kubernetes, driver.Place{}, []string{"pod: Required", "name the pod, and its namespace: none runs in this namespace of web-1"}},
		"only a container of a cluster":       {registrytest.Kubernetes, driver.Place{Container: "app"}, []string{"pod: Required"}},
		"only a namespace of a cluster":       {registrytest.Kubernetes, driver.Place{Namespace: "prod"}, []string{"pod: Required"}},
		"a pod with a slash":                  {registrytest.Kubernetes, driver.Place{Pod: "a/b"}, []string{"pod: Invalid"}},
		"a pod that goes back":                {registrytest.Kubernetes, driver.Place{Pod: ".."}, []string{"pod: Invalid"}},
		"a pod with capitals":                 {registrytest.Kubernetes, driver.Place{Pod: "Web"}, []string{"pod: Invalid"}},
		"a pod with a long name":              {registrytest.Kubernetes, driver.Place{Pod: long}, []string{"pod: Invalid"}},
		"a namespace with a dot":              {registrytest.Kubernetes, driver.Place{Pod: "web", Namespace: "a.b"}, []string{"namespace: Invalid"}},
		"a container of a pod with an _":      {registrytest.Kubernetes, driver.Place{Pod: "web", Container: "a_b"}, []string{"container: Invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			for way, change := range map[string]func(*v1alpha1.ConnectionPool){
				"by the pool": registrytest.OnlyFor("web-1"), "by the pools' choice": registrytest.LeastLoaded,
			} {
				t.Run(way, func(t *testing.T) {
					inFixture(t, func(f *fixture) {
						f.Connect(f.Target("web-1", "web", test.kind), f.Pool("web", change))
						tryPlace(f, test.place, test.words)
					})
				})
			}
		})
	}
}

// tryPlace runs a command in both forms and looks where it arrives.
func tryPlace(f *fixture, place driver.Place, words []string) {
	f.Helper()
	got := f.Post(f.Context(), "web", in(place))
	if len(words) == 0 {
		got.WantOutcome(f, live.OutcomeCompleted)
		if ran := f.Fake.Live()[0].Execs(); len(ran) != 1 || ran[0].Place != place {
			f.Errorf("it ran as %+v", ran)
		}
		return
	}
	got.WantRefusal(f, http.StatusBadRequest, append(words, "spec.")...)
	req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/pools/web/exec?"+placeQuery(place), http.NoBody)
	registrytest.Upgrading(req)
	f.Send(req).WantRefusal(f, http.StatusBadRequest, words...)
	if f.Execs() != 0 || f.Set.Connections("")[0].Leases != 0 {
		f.Errorf("%d commands ran, %+v", f.Execs(), f.Set.Connections(""))
	}
}

func TestOnlyHostsHaveSubsystems(t *testing.T) {
	for kind, change := range map[string]func(*v1alpha1.ConnectionTarget){"docker": registrytest.Docker, "kubernetes": registrytest.Kubernetes} {
		t.Run(kind, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web", change), f.Pool("web", registrytest.LeastLoaded))
				object := in(driver.Place{})
				object.Spec.Command, object.Spec.Subsystem = nil, "sftp"
				f.Post(f.Context(), "web", object).WantRefusal(f, http.StatusBadRequest, "spec.subsystem", "type "+kind, "with command")
			})
		})
	}
}

func TestAStreamedCommandRunsInItsPlace(t *testing.T) {
	place := driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"}
	options := &live.ExecOptions{Command: []string{"true"}, Pod: place.Pod, Container: place.Container, Namespace: place.Namespace}
	if got := queryCommand(options); got.Place != place {
		t.Errorf("it runs in %+v", got.Place)
	}
}

// A target that was deleted and created again while the lease was taken may be of
// another type.
func TestATargetThatChangedMeanwhileRunsNothing(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Target("web-1", "web", func(target *v1alpha1.ConnectionTarget) { target.UID = "another" })
		f.Post(f.Context(), "web", registrytest.Command("true")).WantRefusal(f, http.StatusServiceUnavailable, "target web-1", "try again")
		if f.Execs() != 0 || f.Set.Connections("")[0].Leases != 0 {
			t.Error("something ran, or is held")
		}
	})
}

func TestAnotherPlaceIsAnotherCommand(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Kubernetes), f.Pool("web", registrytest.LeastLoaded))
		places := []driver.Place{
			{Pod: "a"},
			{Pod: "a", Container: "b"},
			{Pod: "a", Namespace: "b"},
			{Pod: "b"},
		}
		for i, place := range places {
			object := in(place)
			object.Spec.RequestID = "one"
			got := f.Post(f.Context(), "web", object)
			if i == 0 {
				got.WantOutcome(f, live.OutcomeCompleted)
				continue
			}
			got.WantRefusal(f, http.StatusConflict, "spec.requestID")
		}
	})
}

func TestAuditSaysWhereInATarget(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Kubernetes), f.Pool("web", registrytest.LeastLoaded))
		f.Post(f.Context(), "web", in(driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"})).WantOutcome(f, live.OutcomeCompleted)
		f.Post(f.Context(), "web", in(driver.Place{Pod: "bad\npod"})).WantRefusal(f, http.StatusBadRequest)
		for _, want := range []string{
			`"container"="app" "pod"="web-0" "podNamespace"="prod"`, fmt.Sprintf(`"namespace"=%q`, registrytest.Namespace), `"pod"="bad\npod"`,
		} {
			if !strings.Contains(f.Audit(), want) {
				t.Errorf("audit does not contain %s: %s", want, f.Audit())
			}
		}
	})
}

func TestWhyACommandWasNotStartedInItsPlace(t *testing.T) {
	for name, test := range map[string]struct {
		err  driver.Error
		want string
	}{
		"there is no such container": {
			driver.Error{Reason: driver.NotFound, Stage: driver.StageSession, Message: "container web does not exist; name one that runs"},
			"the command was not started: session: container web does not exist; name one that runs",
		},
		"the credentials do not allow it": {
			driver.Error{Reason: driver.Forbidden, Stage: driver.StageSession, Message: "the credentials may not exec in pods; grant create on pods/exec"},
			"the command was not started: session: the credentials may not exec in pods; grant create on pods/exec",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
				f.Fake.OnExec(registrytest.Failing(&test.err))
				got := f.Post(f.Context(), "web", in(driver.Place{Container: "web"}))
				got.WantOutcome(f, live.OutcomeNotStarted)
				if status := got.Exec.Status; status.Message != test.want || status.Reason != string(test.err.Reason) {
					t.Errorf("%s: %s", status.Reason, status.Message)
				}
			})
		})
	}
}
