package status

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

// reasons returns the values of all constants Reason... of the API.
func reasons(t *testing.T) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, value)
		}
		return true
	})
	if len(all) < 35 {
		t.Fatalf("found only %q", all)
	}
	return all
}

// where a reason may stand, besides a pool and targets that are warm.
var places = map[string]struct {
	kind, status string
	ofPool       bool
	// ready says whether the pool and the target are ready nevertheless.
	ready bool
	// named says that the status of the pool names the failing target.
	named bool
}{
	"a pool that is not ready":                         {kind: "Ready", status: "False", ofPool: true},
	"a pool that serves and is stalled":                {kind: "Stalled", status: "True", ofPool: true, ready: true},
	"a target that is not ready":                       {kind: "Ready", status: "False", named: true},
	"a target that is not ready, beyond the named ten": {kind: "Ready", status: "False"},
	"a target that serves and is stalled":              {kind: "Stalled", status: "True", ready: true},
	"a target that serves with bad credentials":        {kind: "CredentialsReady", status: "False", ready: true},
	"a target that serves and cannot be reached":       {kind: "Reachable", status: "False", ready: true},
}

func TestEveryReasonIsSeen(t *testing.T) {
	f := clitest.Shop(t, New)
	pools, targets := f.Pools[:1], f.Targets[:1]
	for _, reason := range reasons(t) {
		for name, place := range places {
			if place.ready && v1alpha1.IsExpectedReason(reason) {
				continue // nothing is wrong
			}
			t.Run(reason+"/"+name, func(t *testing.T) {
				condition := metav1.Condition{
					Type: place.kind, Status: metav1.ConditionStatus(place.status), Reason: reason,
					Message: "What happened, and the next step.", LastTransitionTime: *clitest.MinutesAgo(4),
				}
				f.Pools, f.Targets = []v1alpha1.ConnectionPool{*pools[0].DeepCopy()}, []v1alpha1.ConnectionTarget{*targets[0].DeepCopy()}
				pool, target := &f.Pools[0], &f.Targets[0]
				switch {
				case place.ofPool && place.ready:
					pool.Status.Conditions = append(pool.Status.Conditions, condition)
				case place.ofPool:
					pool.Status.Conditions = []metav1.Condition{condition}
				case place.ready:
					target.Status.Conditions = append(target.Status.Conditions, condition)
				default:
					target.Status.Conditions = []metav1.Condition{condition}
					target.Status.Pools[0].Ready = new(false)
				}
				if place.named {
					pool.Status.FailingTargets = []v1alpha1.FailingTarget{{Name: target.Name, Reason: reason, Since: clitest.MinutesAgo(4)}}
				}
				one := f.Run("status", "db").Stdout
				if !strings.Contains(one, reason) || !strings.Contains(one, condition.Message) && !v1alpha1.IsExpectedReason(reason) {
					t.Errorf("status of the pool has no %s:\n%s", reason, one)
				}
				if v1alpha1.IsExpectedReason(reason) && !place.ofPool {
					return // the page of the pool is the place
				}
				if all := f.Run("status").Stdout; !strings.Contains(all, reason) || !strings.Contains(all, "for 4m") ||
					!strings.Contains(all, condition.Message) {
					t.Errorf("status has no %s:\n%s", reason, all)
				}
			})
		}
	}
}

func TestAPoolThatServesWithBadCredentialsSaysSo(t *testing.T) {
	f := clitest.Shop(t, New)
	target := &f.Targets[0]
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionCredentialsReady} {
		status := map[string]metav1.ConditionStatus{v1alpha1.ConditionStalled: metav1.ConditionTrue}[kind]
		if status == "" {
			status = metav1.ConditionFalse
		}
		target.Status.Conditions = append(target.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: v1alpha1.ReasonCredentialsInvalid,
			Message: "The key in the Secret is refused; put the right one into it.", LastTransitionTime: *clitest.MinutesAgo(4),
		})
	}
	f.Pools = f.Pools[:1]
	clitest.Want(t, f.Run("status"), 0, `
NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES   OLDEST   READY   STATUS                    AGE
db     ssh    1         1               1      0        17     52m      True    Warm,CredentialsInvalid   -

db: Warm,CredentialsInvalid. All targets have their warm connections.
  ✘ db-1: CredentialsInvalid for 4m, still serving
    The key in the Secret is refused; put the right one into it.
`)
	clitest.Want(t, f.Run("status", "-o", "custom-columns=H:health,R:ready,F:failingTargets[*].reason", "--no-headers"), 0,
		"Ready,CredentialsInvalid   true   CredentialsInvalid\n")
}
