package registry

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
)

func docker(target *v1alpha1.ConnectionTarget) {
	target.Spec.SSH, target.Spec.Docker = nil, &v1alpha1.DockerTarget{Endpoint: "unix:///var/run/docker.sock"}
}

func kubernetes(target *v1alpha1.ConnectionTarget) {
	target.Spec.SSH, target.Spec.Kubernetes = nil, &v1alpha1.KubernetesTarget{}
}

func ssh(*v1alpha1.ConnectionTarget) {}

// in is a command for a place.
func in(place driver.Place) live.Exec {
	object := command("true")
	object.Spec.Container, object.Spec.Pod, object.Spec.Namespace = place.Container, place.Pod, place.Namespace
	return object
}

// placeQuery is the same in the stream form.
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
		// words of the refusal; none when it runs.
		words []string
	}{
		"a host":                              {ssh, driver.Place{}, nil},
		"a container on a host":               {ssh, driver.Place{Container: "web"}, []string{"container: Forbidden", "web-1 is of type ssh", "leave it out"}},
		"a pod on a host":                     {ssh, driver.Place{Pod: "web"}, []string{"pod: Forbidden", "has no pods", "leave it out"}},
		"a namespace on a host":               {ssh, driver.Place{Namespace: "web"}, []string{"namespace: Forbidden"}},
		"a container of an engine":            {docker, driver.Place{Container: "web_1.x-y"}, nil},
		"no container of an engine":           {docker, driver.Place{}, []string{"container: Required", "web-1 is of type docker", "name the container"}},
		"a pod of an engine":                  {docker, driver.Place{Container: "web", Pod: "p"}, []string{"pod: Forbidden", "name a container instead"}},
		"a namespace of an engine":            {docker, driver.Place{Container: "web", Namespace: "n"}, []string{"namespace: Forbidden"}},
		"a container with a slash":            {docker, driver.Place{Container: "a/../b"}, []string{"container: Invalid", "name or ID"}},
		"a container that is an option":       {docker, driver.Place{Container: "-rf"}, []string{"container: Invalid"}},
		"a container with a query":            {docker, driver.Place{Container: "a?b"}, []string{"container: Invalid"}},
		"a container with a line end":         {docker, driver.Place{Container: "a\n"}, []string{"container: Invalid"}},
		"a container with a long name":        {docker, driver.Place{Container: long}, []string{"container: Too long"}},
		"a pod":                               {kubernetes, driver.Place{Pod: "web-0"}, nil},
		"a container of a pod in a namespace": {kubernetes, driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"}, nil},
		"no pod of a cluster":                 {kubernetes, driver.Place{}, []string{"pod: Required", "type kubernetes", "name the pod"}},
		"only a container of a cluster":       {kubernetes, driver.Place{Container: "app"}, []string{"pod: Required"}},
		"only a namespace of a cluster":       {kubernetes, driver.Place{Namespace: "prod"}, []string{"pod: Required"}},
		"a pod with a slash":                  {kubernetes, driver.Place{Pod: "a/b"}, []string{"pod: Invalid"}},
		"a pod that goes back":                {kubernetes, driver.Place{Pod: ".."}, []string{"pod: Invalid"}},
		"a pod with capitals":                 {kubernetes, driver.Place{Pod: "Web"}, []string{"pod: Invalid"}},
		"a pod with a long name":              {kubernetes, driver.Place{Pod: long}, []string{"pod: Invalid"}},
		"a namespace with a dot":              {kubernetes, driver.Place{Pod: "web", Namespace: "a.b"}, []string{"namespace: Invalid"}},
		"a container of a pod with an _":      {kubernetes, driver.Place{Pod: "web", Container: "a_b"}, []string{"container: Invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			for way, change := range map[string]func(*v1alpha1.ConnectionPool){
				"by the pool": onlyFor("web-1"), "by the pools' choice": leastLoaded,
			} {
				t.Run(way, func(t *testing.T) {
					inWorld(t, func(w *world) {
						w.connect(w.target("web-1", "web", test.kind), w.pool("web", change))
						tryPlace(w, test.place, test.words)
					})
				})
			}
		})
	}
}

// tryPlace runs a command in both forms and looks where it arrives.
func tryPlace(w *world, place driver.Place, words []string) {
	w.Helper()
	got := w.post(w.Context(), "web", in(place))
	if len(words) == 0 {
		got.wantOutcome(w, live.OutcomeCompleted)
		if ran := w.fake.Live()[0].Execs(); len(ran) != 1 || ran[0].Place != place {
			w.Errorf("it ran as %+v", ran)
		}
		return
	}
	got.wantRefusal(w, http.StatusBadRequest, append(words, "spec.")...)
	req := httptest.NewRequestWithContext(w.Context(), http.MethodGet, "/pools/web/exec?"+placeQuery(place), http.NoBody)
	upgrading(req)
	w.send(req).wantRefusal(w, http.StatusBadRequest, words...)
	if w.execs() != 0 || w.set.Connections("")[0].Leases != 0 {
		w.Errorf("%d commands ran, %+v", w.execs(), w.set.Connections(""))
	}
}

func TestOnlyHostsHaveSubsystems(t *testing.T) {
	for kind, change := range map[string]func(*v1alpha1.ConnectionTarget){"docker": docker, "kubernetes": kubernetes} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.connect(w.target("web-1", "web", change), w.pool("web", leastLoaded))
				object := in(driver.Place{})
				object.Spec.Command, object.Spec.Subsystem = nil, "sftp"
				w.post(w.Context(), "web", object).wantRefusal(w, http.StatusBadRequest, "spec.subsystem", "type "+kind, "with command")
			})
		})
	}
}

func TestAStreamedCommandRunsInItsPlace(t *testing.T) {
	place := driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"}
	options := &live.ExecOptions{Command: []string{"true"}, Pod: place.Pod, Container: place.Container, Namespace: place.Namespace}
	if got := streamed(options, nil, nil); got.Place != place {
		t.Errorf("it runs in %+v", got.Place)
	}
}

// A target that was made anew under the same name while the lease was taken may
// be of another type.
func TestATargetThatChangedMeanwhileRunsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.target("web-1", "web", func(target *v1alpha1.ConnectionTarget) { target.UID = "another" })
		w.post(w.Context(), "web", command("true")).wantRefusal(w, http.StatusServiceUnavailable, "target web-1", "try again")
		if w.execs() != 0 || w.set.Connections("")[0].Leases != 0 {
			t.Error("something ran, or is held")
		}
	})
}

func TestAnotherPlaceIsAnotherCommand(t *testing.T) {
	inWorld(t, func(w *world) {
		w.connect(w.target("web-1", "web", kubernetes), w.pool("web", leastLoaded))
		places := []driver.Place{
			{Pod: "a"},
			{Pod: "a", Container: "b"},
			{Pod: "a", Namespace: "b"},
			{Pod: "b"},
		}
		for i, place := range places {
			object := in(place)
			object.Spec.RequestID = "one"
			got := w.post(w.Context(), "web", object)
			if i == 0 {
				got.wantOutcome(w, live.OutcomeCompleted)
				continue
			}
			got.wantRefusal(w, http.StatusConflict, "spec.requestID")
		}
	})
}

func TestAuditSaysWhereInATarget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.connect(w.target("web-1", "web", kubernetes), w.pool("web", leastLoaded))
		w.post(w.Context(), "web", in(driver.Place{Pod: "web-0", Container: "app", Namespace: "prod"})).wantOutcome(w, live.OutcomeCompleted)
		w.post(w.Context(), "web", in(driver.Place{Pod: "bad\npod"})).wantRefusal(w, http.StatusBadRequest)
		for _, want := range []string{
			`"container"="app" "pod"="web-0" "podNamespace"="prod"`, fmt.Sprintf(`"namespace"=%q`, namespace), `"pod"="bad pod"`,
		} {
			if !strings.Contains(w.audit(), want) {
				t.Errorf("audit does not contain %s: %s", want, w.audit())
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
			inWorld(t, func(w *world) {
				w.connect(w.target("web-1", "web", docker), w.pool("web", leastLoaded))
				w.fake.OnExec(failing(&test.err))
				got := w.post(w.Context(), "web", in(driver.Place{Container: "web"}))
				got.wantOutcome(w, live.OutcomeNotStarted)
				if status := got.exec.Status; status.Message != test.want || status.Reason != string(test.err.Reason) {
					t.Errorf("%s: %s", status.Reason, status.Message)
				}
			})
		})
	}
}
