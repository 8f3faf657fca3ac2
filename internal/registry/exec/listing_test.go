package exec

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/internal/registry/limits"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// list sends a Listing that must be answered.
func (f *fixture) list(spec live.ListingSpec) live.ListingStatus {
	f.Helper()
	body, err := json.Marshal(live.Listing{TypeMeta: metav1.TypeMeta{Kind: "Listing"}, Spec: spec})
	if err != nil {
		f.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	f.ServeHTTP(recorder, httptest.NewRequestWithContext(f.Context(), http.MethodPost, "/pools/web/exec", strings.NewReader(string(body))))
	var got live.Listing
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil || recorder.Code != http.StatusOK {
		f.Fatalf("answered %d %s: %v", recorder.Code, recorder.Body, err)
	}
	if got.Kind != "Listing" || got.Name != "web" || got.Namespace != registrytest.Namespace {
		f.Errorf("it is %s %s/%s", got.Kind, got.Namespace, got.Name)
	}
	return got.Status
}

// having plays an engine or a cluster with places.
func having(places inventory.Places) drivertest.ListFunc {
	return func(_ context.Context, _ *drivertest.FakeConn, query inventory.Query) (*inventory.Places, error) {
		found := new(inventory.Places)
		for _, c := range places.Containers {
			found.Add(&query, c)
		}
		for _, p := range places.Pods {
			found.AddPod(&query, p)
		}
		return found, nil
	}
}

// ready sets the condition Ready of a target.
func ready(status metav1.ConditionStatus, reason, message string) func(*v1alpha1.ConnectionTarget) {
	return func(target *v1alpha1.ConnectionTarget) {
		target.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message},
		}
	}
}

func TestTargetsOfAPoolAreListedWithoutAConnection(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Pool("web")
		f.Target("web-2", "web", registrytest.Docker, ready(metav1.ConditionFalse, "Unreachable", "x"))
		f.Target("web-1", "web", ready(metav1.ConditionTrue, "Warm", "x"))
		f.Target("web-3", "web")
		f.Target("other", "db")
		want := []live.ListedTarget{
			{Name: "web-1", Type: "ssh", Ready: true},
			{Name: "web-2", Type: "docker", Reason: "Unreachable"},
			{Name: "web-3", Type: "ssh", Reason: "Pending"},
		}
		if diff := cmp.Diff(live.ListingStatus{Targets: want}, f.list(live.ListingSpec{Of: live.ListTargets})); diff != "" {
			t.Error(diff)
		}
		got := f.list(live.ListingSpec{Of: live.ListTargets, Limit: 2})
		if diff := cmp.Diff(live.ListingStatus{Targets: want[:2], Truncated: true}, got); diff != "" {
			t.Error(diff)
		}
		got = f.list(live.ListingSpec{Of: live.ListTargets, Selector: "name in (web-2)"})
		if diff := cmp.Diff(live.ListingStatus{Targets: want[1:2]}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPlacesAreListedOverAWarmConnection(t *testing.T) {
	made := inventory.Container{Name: "web", ID: "abc", Image: "nginx", State: "running", Status: "Up 2 hours"}
	pod := inventory.Pod{Namespace: "shop", Name: "web-0", Phase: "Running", Containers: []string{"app"}, Total: 1, Ready: 1, Node: "n"}
	for name, test := range map[string]struct {
		kind func(*v1alpha1.ConnectionTarget)
		spec live.ListingSpec
		want live.ListingStatus
		// query is what the target is asked.
		query inventory.Query
	}{
		"containers": {
			registrytest.Docker,
			live.ListingSpec{Of: live.ListContainers, All: true},
			live.ListingStatus{Containers: []live.ListedContainer{{Name: "web", ID: "abc", Image: "nginx", State: "running", Status: "Up 2 hours"}}},
			inventory.Query{All: true, Limit: 500},
		},
		"pods": {
			registrytest.Kubernetes,
			live.ListingSpec{Of: live.ListPods, Target: "web-1", Namespace: "shop", Selector: "app=web", Limit: 7},
			live.ListingStatus{Pods: []live.ListedPod{{
				Name: "web-0", Namespace: "shop", Phase: "Running", Containers: []string{"app"}, ContainerCount: 1, ReadyCount: 1, Node: "n",
			}}},
			inventory.Query{Namespace: "shop", Selector: "app=web", Limit: 7},
		},
		"pods of all namespaces": {
			registrytest.Kubernetes,
			live.ListingSpec{Of: live.ListPods, AllNamespaces: true},
			live.ListingStatus{Pods: []live.ListedPod{{
				Name: "web-0", Namespace: "shop", Phase: "Running", Containers: []string{"app"}, ContainerCount: 1, ReadyCount: 1, Node: "n",
			}}},
			inventory.Query{AllNamespaces: true, Limit: 500},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web", test.kind), f.Pool("web", registrytest.LeastLoaded))
				f.Fake.OnList(func(ctx context.Context, conn *drivertest.FakeConn, query inventory.Query) (*inventory.Places, error) {
					test.query.MaxBytes = live.MaxListingBytes
					if diff := cmp.Diff(test.query, query); diff != "" {
						t.Error(diff)
					}
					places := inventory.Places{Containers: []inventory.Container{made}}
					if test.spec.Of == live.ListPods {
						places = inventory.Places{Pods: []inventory.Pod{pod}}
					}
					return having(places)(ctx, conn, query)
				})
				got := f.list(test.spec)
				if got.Target != "web-1" || !f.HasConnection(got.Connection) || f.Leases() != 0 || !f.Idle() {
					t.Errorf("target %s, connection %s, %d leases", got.Target, got.Connection, f.Leases())
				}
				got.Target, got.Connection = "", ""
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
				for _, want := range []string{
					`"subresource"="exec" "transport"="json"`, fmt.Sprintf(`"listing"=%q`, test.spec.Of), `"use started"`, `"use ended"`, `"user"="alice"`,
				} {
					if !strings.Contains(f.Audit(), want) {
						t.Errorf("audit does not contain %s: %s", want, f.Audit())
					}
				}
				if f.Execs() != 0 {
					t.Error("something ran")
				}
			})
		})
	}
}

func TestTheHistoryTellsListingsFromCommands(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Fake.OnList(having(inventory.Places{}))
		f.list(live.ListingSpec{Of: live.ListContainers})
		all := f.Gate.History.List(registrytest.Namespace)
		if len(all) != 1 || all[0].Action != live.UseListing {
			t.Errorf("the history has %+v", all)
		}
	})
}

func TestListingsThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		kind  func(*v1alpha1.ConnectionTarget)
		spec  string
		code  int
		words string
	}{
		"of nothing":                     {registrytest.SSH, `{}`, 400, "Containers"},
		"of something else":              {registrytest.SSH, `{"of":"Images"}`, 400, "Images"},
		"an unknown field":               {registrytest.SSH, `{"of":"Targets","on":"x"}`, 400, "not a valid Listing"},
		"a target of targets":            {registrytest.SSH, `{"of":"Targets","target":"web-1"}`, 400, "leave it out"},
		"an unknown target":              {registrytest.Docker, `{"of":"Containers","target":"web-9"}`, 404, "it has web-1"},
		"containers of a host":           {registrytest.SSH, `{"of":"Containers"}`, 400, "target web-1 is of type ssh, which has no containers"},
		"pods of a host":                 {registrytest.SSH, `{"of":"Pods"}`, 400, "target web-1 is of type ssh, which has no pods"},
		"pods of an engine":              {registrytest.Docker, `{"of":"Pods"}`, 400, "of type docker, which has no pods"},
		"containers of a cluster":        {registrytest.Kubernetes, `{"of":"Containers"}`, 400, "list the pods"},
		"a namespace of an engine":       {registrytest.Docker, `{"of":"Containers","namespace":"x"}`, 400, "leave it out"},
		"all namespaces of an engine":    {registrytest.Docker, `{"of":"Containers","allNamespaces":true}`, 400, "leave it out"},
		"labels of containers":           {registrytest.Docker, `{"of":"Containers","selector":"a=b"}`, 400, "leave it out"},
		"labels that are none":           {registrytest.Kubernetes, `{"of":"Pods","selector":"a=b=c"}`, 400, "label selector"},
		"a namespace that is a path":     {registrytest.Kubernetes, `{"of":"Pods","namespace":"../x"}`, 400, "../x"},
		"a namespace and all namespaces": {registrytest.Kubernetes, `{"of":"Pods","namespace":"x","allNamespaces":true}`, 400, "either"},
		"a negative limit":               {registrytest.Docker, `{"of":"Containers","limit":-1}`, 400, "between 1 and 1000"},
		"too high a limit":               {registrytest.Docker, `{"of":"Containers","limit":1001}`, 400, "between 1 and 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web", test.kind), f.Pool("web", registrytest.LeastLoaded))
				f.Post(f.Context(), "web", `{"kind":"Listing","spec":`+test.spec+`}`).WantRefusal(f, test.code, test.words)
				if !strings.Contains(f.Audit(), "use refused") || !f.Idle() || f.Leases() != 0 {
					t.Errorf("audit %s", f.Audit())
				}
			})
		})
	}
}

func TestATargetThatListsNothingSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		err  *driver.Error
		code int
	}{
		"it forbids it":       {driver.Errorf(driver.Forbidden, driver.StageRun, "the cluster forbids it"), http.StatusBadRequest},
		"it is overloaded":    {driver.Errorf(driver.Timeout, driver.StageRun, "not in time"), http.StatusServiceUnavailable},
		"it breaks the rules": {driver.Errorf(driver.ProtocolError, driver.StageRun, "nonsense"), http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Connect(f.Target("web-1", "web", registrytest.Kubernetes), f.Pool("web", registrytest.LeastLoaded))
				f.Fake.OnList(func(context.Context, *drivertest.FakeConn, inventory.Query) (*inventory.Places, error) {
					return nil, test.err
				})
				got := f.Post(f.Context(), "web", `{"kind":"Listing","spec":{"of":"Pods"}}`)
				got.WantRefusal(f, test.code, "the pods of target web-1 cannot be listed: "+test.err.Message)
				if reason := registrytest.Causes(got.Status)[live.CauseReason]; reason != string(test.err.Reason) {
					t.Errorf("reason %s, want %s", reason, test.err.Reason)
				}
			})
		})
	}
}

func TestWhoMayNotRunCommandsListsNothing(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Authorizer.Decide(authorizer.DecisionDeny, nil)
		for _, of := range []live.ListingOf{live.ListTargets, live.ListContainers} {
			f.Post(f.Context(), "web", `{"kind":"Listing","spec":{"of":"`+string(of)+`"}}`).WantRefusal(f, http.StatusForbidden)
		}
	})
}

func TestListingsCountAsOutput(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		const body = `{"kind":"Listing","spec":{"of":"Containers"}}`
		f.Fake.OnList(func(context.Context, *drivertest.FakeConn, inventory.Query) (*inventory.Places, error) {
			owner := quota.Owner{Namespace: registrytest.Namespace, User: "alice"}
			if full := f.Gate.Memory.Output.Take(owner, 10<<20); full == quota.Free {
				t.Error("what is listed counts for nothing")
				f.Gate.Memory.Output.Add(owner, -10<<20)
			}
			return new(inventory.Places), nil
		})
		if got := f.Post(f.Context(), "web", body); got.Code != http.StatusOK {
			t.Errorf("answered %d", got.Code)
		}
	}, func(c *use.Config) { c.Limits = limits.Limits{Memory: 4 * (10 << 20) * 4} })
}

// unread is an answer that the client is about to read.
type unread struct {
	*httptest.ResponseRecorder

	sent func()
}

// Write implements io.Writer.
func (u unread) Write(text []byte) (int, error) {
	u.sent()
	return u.ResponseRecorder.Write(text)
}

func TestAListingCountsUntilItIsSent(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Fake.OnList(having(inventory.Places{Containers: []inventory.Container{{Name: "web"}}}))
		owner := quota.Owner{Namespace: registrytest.Namespace, User: "alice"}
		counts := false
		answer := unread{httptest.NewRecorder(), func() {
			if counts = f.Gate.Memory.Output.Take(owner, 10<<20) != quota.Free; !counts {
				f.Gate.Memory.Output.Add(owner, -10<<20)
			}
		}}
		const body = `{"kind":"Listing","spec":{"of":"Containers"}}`
		f.ServeHTTP(answer, httptest.NewRequestWithContext(f.Context(), http.MethodPost, "/pools/web/exec", strings.NewReader(body)))
		if answer.Code != http.StatusOK || !counts {
			t.Errorf("answered %d, and while it is sent it counts: %t", answer.Code, counts)
		}
		if f.Gate.Memory.Output.Take(owner, 10<<20) != quota.Free {
			t.Error("it counts when it has been sent")
		}
	}, func(c *use.Config) { c.Limits = limits.Limits{Memory: 4 * (10 << 20) * 4} })
}

func TestAListingIsNoCommandInTheHistory(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("web-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		f.Fake.OnList(having(inventory.Places{}))
		f.list(live.ListingSpec{Of: live.ListContainers})
		f.Post(f.Context(), "web", `{"kind":"Listing","spec":{"of":"Pods"}}`)
		var got []string
		for _, u := range f.Gate.History.List(registrytest.Namespace) {
			got = append(got, string(u.Action)+": "+u.Result())
		}
		if diff := cmp.Diff([]string{"list: refused: BadRequest", "list: ended"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestASessionListsNothing(t *testing.T) {
	if err := checkIdentity(&metav1.TypeMeta{Kind: "Listing"}, new(metav1.ObjectMeta), kindExec, "n", "s"); err == nil {
		t.Error("a Listing passes for an Exec")
	}
}
