package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

// inNamespace returns the context of a request in a namespace, or in all when it is
// empty.
func (f *fixture) inNamespace(name string) context.Context {
	return request.WithNamespace(f.Context(), name)
}

func (f *fixture) connections() *connections {
	return f.registry.Storage()["connections"].(*connections)
}

// targets lists connections and returns their targets.
func (f *fixture) targets(namespace string, options *metainternalversion.ListOptions) []string {
	f.Helper()
	list, err := f.connections().List(f.inNamespace(namespace), options)
	if err != nil {
		f.Fatal(err)
	}
	targets := []string{}
	for _, item := range list.(*live.ConnectionList).Items {
		targets = append(targets, item.Target)
	}
	return targets
}

// estate connects pools web and db with three targets, one of which is busy.
func (f *fixture) estate() (release chan struct{}) {
	web, db := f.Pool("web"), f.Pool("db")
	f.Connect(f.Target("web-1", "web"), web)
	f.Connect(f.Target("web-2", "web"), web)
	f.Connect(f.Target("db-1", "db"), db)
	release = make(chan struct{})
	f.Fake.OnExec(registrytest.Lasting(release))
	f.Later(f.Context(), "web", registrytest.On("web-2"))
	synctest.Wait()
	return release
}

func TestConnectionsAreSelected(t *testing.T) {
	for name, test := range map[string]struct {
		namespace, labels, fields string
		want                      []string
	}{
		"all of a namespace":          {registrytest.Namespace, "", "", []string{"db-1", "web-1", "web-2"}},
		"all":                         {"", "", "", []string{"db-1", "web-1", "web-2"}},
		"of an empty namespace":       {"other", "", "", []string{}},
		"by a label of the target":    {registrytest.Namespace, "name in (web-1,db-1)", "", []string{"db-1", "web-1"}},
		"by pool":                     {registrytest.Namespace, "", "pool=web", []string{"web-1", "web-2"}},
		"by another pool than":        {registrytest.Namespace, "", "pool!=web", []string{"db-1"}},
		"by target":                   {registrytest.Namespace, "", "target==db-1", []string{"db-1"}},
		"by type":                     {registrytest.Namespace, "", "type=ssh,metadata.namespace=" + registrytest.Namespace, []string{"db-1", "web-1", "web-2"}},
		"by state":                    {registrytest.Namespace, "", "state=InUse", []string{"web-2"}},
		"by state and label":          {registrytest.Namespace, "pool=web", "state=Idle", []string{"web-1"}},
		"by what no connection is":    {registrytest.Namespace, "", "type=docker", []string{}},
		"by a name that is not there": {registrytest.Namespace, "", "metadata.name=x", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				defer close(f.estate())
				options := &metainternalversion.ListOptions{FieldSelector: fields.ParseSelectorOrDie(test.fields)}
				options.LabelSelector, _ = labels.Parse(test.labels)
				if got := f.targets(test.namespace, options); !slices.Equal(got, test.want) {
					t.Errorf("listed are %v, want %v", got, test.want)
				}
			})
		})
	}
}

func TestAnUnknownFieldIsRefusedByItsName(t *testing.T) {
	inFixture(t, func(f *fixture) {
		options := &metainternalversion.ListOptions{FieldSelector: fields.ParseSelectorOrDie("color=red")}
		_, err := f.connections().List(f.inNamespace(""), options)
		if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "color") {
			t.Errorf("error is %v", err)
		}
		kind := live.GroupVersion.WithKind("Connection")
		if _, _, err := f.Scheme.ConvertFieldLabel(kind, "state", "Idle"); err != nil {
			t.Error(err)
		}
		if _, _, err := f.Scheme.ConvertFieldLabel(kind, "color", "red"); err == nil {
			t.Error("the scheme knows a color")
		}
	})
}

func TestAListIsPagedThrough(t *testing.T) {
	inFixture(t, func(f *fixture) {
		pool := f.Pool("web")
		var want []string
		for i := range 7 {
			name := fmt.Sprintf("web-%d", i)
			f.Connect(f.Target(name, "web"), pool)
			want = append(want, name)
		}
		var got []string
		options := &metainternalversion.ListOptions{Limit: 3}
		for page := 0; ; page++ {
			object, err := f.connections().List(f.inNamespace(registrytest.Namespace), options)
			if err != nil {
				t.Fatal(err)
			}
			list := object.(*live.ConnectionList)
			for _, item := range list.Items {
				got = append(got, item.Target)
			}
			if list.Continue == "" {
				break
			}
			if remaining := *list.RemainingItemCount; remaining != int64(7-3*(page+1)) {
				t.Errorf("page %d says that %d remain", page, remaining)
			}
			options.Continue = list.Continue
		}
		if !slices.Equal(got, want) {
			t.Errorf("the pages have %v", got)
		}
		if _, err := f.connections().List(f.inNamespace(registrytest.Namespace), &metainternalversion.ListOptions{Continue: "!"}); !apierrors.IsBadRequest(err) {
			t.Errorf("a bad token says %v", err)
		}
	})
}

func TestAConnectionSaysWhatItIs(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		time.Sleep(time.Minute)
		f.Post(f.Context(), "web", registrytest.Command("true"))
		time.Sleep(30 * time.Second)
		list, err := f.connections().List(f.inNamespace(registrytest.Namespace), nil)
		if err != nil {
			t.Fatal(err)
		}
		item := list.(*live.ConnectionList).Items[0]
		got, err := f.connections().Get(f.inNamespace(registrytest.Namespace), item.Name, &metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := got.(*live.Connection)
		if c.UID != item.UID || c.Pool != "web" || c.Target != "web-1" || c.Type != "ssh" || c.State != live.ConnectionIdle ||
			c.ServerVersion != "fake" || c.RemoteAddress != "web-1:22" || c.Replica != "replica-0" || c.Labels["pool"] != "web" ||
			c.HandshakeMicroseconds != 1000 || c.RoundTripMicroseconds != 1000 || c.LastUsedTime == nil {
			t.Errorf("connection is %+v", c)
		}
		if _, err := f.connections().Get(f.inNamespace("other"), item.Name, nil); !apierrors.IsNotFound(err) {
			t.Errorf("in another namespace: %v", err)
		}
		table, err := f.connections().ConvertToTable(f.Context(), list, nil)
		if err != nil {
			t.Fatal(err)
		}
		cells := map[string]string{}
		for i, column := range table.ColumnDefinitions {
			cells[column.Name] = fmt.Sprint(table.Rows[0].Cells[i])
		}
		for column, want := range map[string]string{
			"Name": item.Name, "Pool": "web", "Target": "web-1", "Type": "ssh", "State": "Idle", "In-Use": "0", "Age": "90s",
			"Idle": "30s", "RTT": "1.0ms", "Server": "fake", "Address": "web-1:22", "Handshake": "1.0ms", "Replica": "replica-0",
		} {
			if cells[column] != want {
				t.Errorf("column %s is %q, want %q", column, cells[column], want)
			}
		}
	})
}

func TestDrainReplacesThenCloses(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		before := f.connections().describe(f.Set.Connections("")[0])
		drain := f.registry.Storage()["connections/drain"].(rest.NamedCreater)
		got, err := drain.Create(f.inNamespace(registrytest.Namespace), before.Name, &live.Drain{}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if err != nil || got.(*live.Drain).Status.Connections != 1 {
			t.Fatalf("drain says %+v, %v", got, err)
		}
		synctest.Wait()
		if f.HasConnection(before.Name) || len(f.Fake.Dials()) != 2 {
			t.Errorf("it is still there, %d dials", len(f.Fake.Dials()))
		}
		if _, err := drain.Create(f.inNamespace(registrytest.Namespace), before.Name, &live.Drain{}, nil, nil); !apierrors.IsNotFound(err) {
			t.Errorf("once more: %v", err)
		}
		all := f.registry.Storage()["connectionpools/drain"].(rest.NamedCreater)
		got, err = all.Create(f.inNamespace(registrytest.Namespace), "web", &live.Drain{}, nil, nil)
		if err != nil || got.(*live.Drain).Status.Connections != 1 {
			t.Errorf("drain of the pool says %+v, %v", got, err)
		}
		if _, err = all.Create(f.inNamespace(registrytest.Namespace), "db", &live.Drain{}, nil, nil); !apierrors.IsNotFound(err) {
			t.Errorf("drain of another pool says %v", err)
		}
		dry := &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		if _, err = all.Create(f.inNamespace(registrytest.Namespace), "web", &live.Drain{}, nil, dry); !apierrors.IsBadRequest(err) {
			t.Errorf("a dry run says %v", err)
		}
	})
}

func TestACheckReportsStageByStage(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(*fixture)
		ready   bool
		stage   string
		reason  string
	}{
		"a good target": {func(f *fixture) { f.Web() }, true, "", ""},
		"a target that refuses the key": {func(f *fixture) {
			f.Web()
			f.Fake.OnDial(func(context.Context, driver.Endpoint) error {
				return &driver.Error{Reason: driver.AuthenticationFailed, Stage: driver.StageAuthentication, Message: "the key is refused"}
			})
		}, false, "authentication", "AuthenticationFailed"},
		"a target that no pool selects": {func(f *fixture) {
			f.Target("web-1", "web", f.Unusable(v1alpha1.ReasonNotSelected, "no pool selects it"))
		}, false, "credentials", "NotSelected"},
		"a target that is new": {func(f *fixture) { f.Target("web-1", "web") }, false, "credentials", "Pending"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				test.arrange(f)
				storage := f.registry.Storage()["connectiontargets/check"].(rest.NamedCreater)
				object, err := storage.Create(f.inNamespace(registrytest.Namespace), "web-1", &live.Check{}, nil, &metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got := object.(*live.Check).Status
				if got.Ready != test.ready || got.Stages[0].Name != "credentials" {
					t.Errorf("check says %+v", got)
				}
				last := got.Stages[len(got.Stages)-1]
				if !test.ready && (last.Passed || last.Name != test.stage || last.Reason != test.reason || last.Message == "") {
					t.Errorf("it ended at %+v", last)
				}
				if _, err := storage.Create(f.inNamespace(registrytest.Namespace), "other", &live.Check{}, nil, nil); !apierrors.IsNotFound(err) {
					t.Errorf("another target says %v", err)
				}
			})
		})
	}
}
