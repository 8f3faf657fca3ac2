package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/columns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStatusShowsAllPoolsAndWhatFails(t *testing.T) {
	clitest.Want(t, clitest.Shop(t, New).Run("status"), 0, `
NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES    OLDEST   READY   STATUS     AGE
db     ssh    1         1               1      0        17      52m      True    Warm       -
web    ssh    2         1               1      1        10423   30m      True    Degraded   -

web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.
`)
}

func TestStatusOfAllNamespacesNamesThem(t *testing.T) {
	got := clitest.Shop(t, New).Run("status", "-A", "-o", "wide")
	clitest.Want(t, got, 0, `
NAMESPACE   NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES    OLDEST   READY   STATUS     AGE   LAST-USED   DESIRED   DIALING   DRAINING   SINCE
shop        db     ssh    1         1               1      0        17      52m      True    Warm       -     3m          1         0         0          3h
shop        web    ssh    2         1               1      1        10423   30m      True    Degraded   -     0s          1         0         0          12m
other       new    -      -         -               0      0        0       -        -       Unknown    -     -           0         0         0          -

shop/web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.

other/new: Unknown. The operator has not examined it yet.
`)
}

func TestStatusOfOnePoolShowsItsTargetsAndTheirConditions(t *testing.T) {
	clitest.Want(t, clitest.Shop(t, New).Run("status", "web"), 0, `
Pool web (ssh) in namespace shop

Status:      Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
Targets:     1/2 ready
Connections: 1 warm of 1 wanted, 1 in use, 0 dialing, 0 draining, oldest 30m
Uses:        10423, last 0s ago

NAME    TYPE   ENDPOINT          WARM   IN-USE   USES   OLDEST   READY   STATUS                 AGE
web-1   -      deploy@web-1:22   1      1        41     30m      True    Warm                   -
web-2   -      deploy@web-2:22   0      0        9      -        False   AuthenticationFailed   -

✘ web-2: AuthenticationFailed for 12m. The server refuses the key.[31m Add its public half to authorized_keys.
    ✔ CredentialsReady=True for 3h, CredentialsValid: The Secret can be used.
    ✘ Reachable=False for 12m, AuthenticationFailed: The server refuses the key: publickey.
`)
}

func TestStatusForPrograms(t *testing.T) {
	f := clitest.Shop(t, New)
	got := f.Run("status", "web", "-o", "json")
	var report poolReport
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, got.Stdout)
	}
	if report.Health != healthDegraded || len(report.Members) != 2 || report.Failing[0].Message == "" {
		t.Errorf("reported %+v", report)
	}
	clitest.Want(t, f.Run("status", "-o", "name"), 0, "connectionpool.connpool.dev/db\nconnectionpool.connpool.dev/web\n")
	if got := f.Run("status", "-o", "yaml"); !strings.HasPrefix(got.Stdout, "pools:\n") {
		t.Errorf("yaml is %s", got.Stdout)
	}
}

func TestCredentialsThatDoNotWorkAreExplainedOnce(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Targets[2].Status.Conditions = []metav1.Condition{
		{Type: "CredentialsReady", Status: "False", Reason: "CredentialsInvalid", Message: "the earlier ones serve, because the server refuses the key"},
		{Type: "Ready", Status: "True", Reason: "Warm", Message: "every pool has its warm connections"},
		{Type: "Stalled", Status: "True", Reason: "CredentialsInvalid", Message: "the server refuses the key"},
	}
	got := f.Run("status", "web").Stdout
	if strings.Count(got, "the server refuses the key") != 1 || !strings.Contains(got, "CredentialsReady=False") {
		t.Errorf("stdout is %s", got)
	}
}

func TestStatusWithoutPools(t *testing.T) {
	got := clitest.New(t, New).Run("status")
	clitest.Want(t, got, 0, "")
	clitest.WantStderr(t, got, 0, "No pools in namespace shop.")
}

func TestAUserWhoMayNotReadTargetsStillSeesPools(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["list connpool.dev/connectiontargets"] = true
	got := f.Run("status")
	if !strings.Contains(got.Stdout, "web-2: AuthenticationFailed for 12m") {
		t.Errorf("stdout is %s", got.Stdout)
	}
	clitest.WantStderr(t, got, 0, "details of targets are missing", `resources: ["connectiontargets"]`)
}

func TestFiguresAreOfThisMoment(t *testing.T) {
	f := clitest.Shop(t, New)
	// The operator has written that one of three connections is warm; now all are, and one
	// that belonged to a target that has left drains.
	pool := &f.Pools[1].Status
	pool.LastUsedTime = nil
	pool.Connections = v1alpha1.PoolConnectionCounts{
		Warm: new(int32(1)), InUse: new(int32(0)), Desired: new(int32(3)), Dialing: new(int32(2)), Draining: new(int32(0)),
	}
	f.Counts = []livev1alpha1.ConnectionCounts{
		{Namespace: "shop", Pool: "web", Target: "web-1", Desired: 2, Warm: 2, InUse: 2, UseCount: 10400, OldestConnectionTime: clitest.MinutesAgo(7)},
		{Namespace: "shop", Pool: "web", Target: "web-2", Desired: 1, Warm: 1, UseCount: 30, LastUsedTime: clitest.MinutesAgo(2)},
		{Namespace: "shop", Pool: "web", Draining: 1, UseCount: 5},
		{Namespace: "other", Pool: "web", Target: "web-1", Warm: 50},
	}
	got := f.Run("status", "web")
	for _, want := range []string{
		"3 warm of 3 wanted, 2 in use, 0 dialing, 1 draining, oldest 7m\n", "Uses:        10435, last 2m ago\n",
		"web-1   -      deploy@web-1:22   2      2        10400   7m",
	} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("there is no %q in\n%s", want, got.Stdout)
		}
	}
	if got.Stderr != "" {
		t.Errorf("it says %s", got.Stderr)
	}
	var asked int
	for _, request := range f.Requests() {
		if strings.Contains(request, "/connections") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("it asked %d times for connections", asked)
	}
}

func TestUsesNeverFallWhenAnotherReplicaCounts(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Counts = []livev1alpha1.ConnectionCounts{{Namespace: "shop", Pool: "web", Target: "web-1", Warm: 1, UseCount: 3}}
	clitest.Want(t, f.Run("status", "-o", "custom-columns=N:name,U:useCount", "--no-headers"), 0, "db    17\nweb   10423\n")
}

func TestStatusSaysWhenItsFiguresAreStored(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(*clitest.Fixture)
		says    string
	}{
		"the user may not list connections": {
			func(f *clitest.Fixture) { f.Denied["list live.connpool.dev/connections"] = true },
			"you may not list connections in the API live.connpool.dev",
		},
		"the live API does not answer": {
			func(f *clitest.Fixture) {
				f.Answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = func(out http.ResponseWriter, _ *http.Request) {
					http.Error(out, "no endpoints available", http.StatusServiceUnavailable)
				}
			},
			"no endpoints available",
		},
		"the operator is older": {
			func(f *clitest.Fixture) { f.Counts = []livev1alpha1.ConnectionCounts{} },
			"the operator is older than this program",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New)
			test.arrange(f)
			got := f.Run("status", "db")
			clitest.WantStderr(t, got, 0, "note: the figures are from the status that the operator wrote last, and may be 30 s old or older: ", test.says)
			if !strings.Contains(got.Stdout, "2 warm of 2 wanted") {
				t.Errorf("it prints %s", got.Stdout)
			}
			clitest.Want(t, f.Run("status", "db", "-o", "jsonpath={.figuresFrom} {.connections.warm}"), 0, "StoredStatus 2")
		})
	}
}

func TestTheColumnsAreThoseOfKubectl(t *testing.T) {
	for file, got := range map[string][]string{"connectionpools": titles(poolColumns), "connectiontargets": titles(targetColumns)} {
		text, err := os.ReadFile("../../../config/crd/bases/connpool.dev_" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		// status has more columns, because its figures are of this moment.
		want := []string{"Name"}
		for _, column := range crd.Spec.Versions[0].AdditionalPrinterColumns {
			if column.Priority == 0 {
				want = append(want, column.Name)
			}
		}
		shared := slices.DeleteFunc(got, func(title string) bool { return !slices.Contains(want, title) })
		if diff := cmp.Diff(want, shared); diff != "" {
			t.Errorf("%s (-kubectl +status):\n%s", file, diff)
		}
	}
}

// titles returns the names of the columns that are not wide.
func titles[T any](all []columns.Column[T]) (names []string) {
	for _, column := range all {
		if !column.Wide {
			names = append(names, column.Name)
		}
	}
	return names
}

func TestAPoolThatDoesNotExistIsAnError(t *testing.T) {
	f := clitest.Shop(t, New)
	clitest.WantStderr(t, f.Run("status", "wob"), 1, `"wob"`, "Did you mean web?")
	clitest.WantStderr(t, f.Run("status", "web", "-l", "a=b"), 1, "cannot be used together")
	for _, kind := range []string{"connectionpool/", "pool/", "cpool/", "connectionpools.connpool.dev/"} {
		clitest.Want(t, f.Run("status", kind+"web", "-o", "name"), 0, "connectionpool.connpool.dev/web\n")
	}
}

func TestStatusIsListedAsKubectlLists(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Answers["/apis/connpool.dev/v1alpha1/namespaces/shop/connectionpools"] = func(out http.ResponseWriter, r *http.Request) {
		list := v1alpha1.ConnectionPoolList{Items: f.Pools[:2]}
		if r.URL.Query().Get("labelSelector") == "team=front" {
			list.Items = f.Pools[1:2]
		}
		f.Answer(out, list)
	}
	clitest.Want(t, f.Run("status", "-l", "team=front", "--no-headers"), 0,
		"web   ssh   2   1   1   1   10423   30m   True   Degraded   -\n")
	clitest.Want(t, f.Run("status", "--sort-by", ".useCount", "-o", "jsonpath={.pools[*].name}"), 0, "db web")
	// As it is typed for kubectl.
	clitest.Want(t, f.Run("status", "--sort-by=.metadata.name", "-o", "jsonpath={.items[*].metadata.name}"), 0, "db web")
	clitest.Want(t, f.Run("status", "-o", "custom-columns=POOL:.name,FAILS:.failingTargets[*].name"), 0,
		"POOL   FAILS\ndb     <none>\nweb    web-2\n")
}

func TestStatusOfAThousandTargetsIsQuick(t *testing.T) {
	f := clitest.New(t, New)
	ssh := v1alpha1.PoolType("ssh")
	for i := range 10 {
		app := fmt.Sprintf("app-%d", i)
		f.Pools = append(f.Pools, v1alpha1.ConnectionPool{
			ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "shop"},
			Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
			Status:     v1alpha1.ConnectionPoolStatus{Type: &ssh, Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Warm"}}},
		})
		for j := range 100 {
			name := fmt.Sprintf("%s-%d", app, j)
			f.Targets = append(f.Targets, clitest.Target(name, app))
			f.Counts = append(f.Counts, livev1alpha1.ConnectionCounts{Namespace: "shop", Pool: app, Target: name, Warm: 3})
		}
	}
	got := f.Run("status")
	if strings.Count(got.Stdout, "300") != 10 || got.Code != 0 {
		t.Errorf("it prints %s%s", got.Stdout, got.Stderr)
	}
	if requests := f.Requests(); len(requests) != 3 {
		t.Errorf("it asks %q, want three requests", requests)
	}
}

func TestTargetsThatNoPoolSelectsAreShownIfSomethingIsWrong(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Pools = f.Pools[:1]
	f.Targets = []v1alpha1.ConnectionTarget{clitest.Target("db-1", "db"), clitest.Target("old-1", "old"), clitest.Target("bastion", "x"), clitest.Target("gate", "x")}
	for i := range f.Targets {
		f.Targets[i].UID = types.UID(f.Targets[i].Name)
	}
	says := func(i int, status metav1.ConditionStatus, reason, message string) {
		f.Targets[i].Status.Conditions = []metav1.Condition{
			{Type: "Ready", Status: status, Reason: reason, Message: message, LastTransitionTime: *clitest.MinutesAgo(9)},
		}
	}
	says(1, metav1.ConditionFalse, v1alpha1.ReasonNotSelected, "No pool selects it; give it a label.")
	says(2, metav1.ConditionFalse, v1alpha1.ReasonCredentialsMissing, "There is no Secret; create it.")
	says(3, metav1.ConditionTrue, v1alpha1.ReasonJumpHost, "It is a jump host.")
	got := f.Run("status")
	clitest.Want(t, got, 0, `
NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES   OLDEST   READY   STATUS   AGE
db     ssh    1         1               1      0        17     52m      True    Warm     -

Targets that no pool selects:
  ! old-1: NotSelected for 9m
    No pool selects it; give it a label.
  ✘ bastion: CredentialsMissing for 9m
    There is no Secret; create it.
`)
	clitest.Want(t, f.Run("status", "-o", "jsonpath={.otherTargets[*].name}"), 0, "old-1 bastion")
}
