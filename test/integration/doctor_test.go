package integration

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli"
)

func TestDoctorJudgesRightsAsTheyWereGranted(t *testing.T) {
	space := namespace(t)
	create(t, pool(space, "web", "web-1"), pool(space, "db", "db-1"))
	see := rbacv1.PolicyRule{APIGroups: []string{"connpool.dev"}, Resources: []string{"connectionpools"}, Verbs: []string{"get", "list"}}
	both := []string{"create", "get"}
	const exec, pools = "create,get connectionpools/exec", "get,list connectionpools"
	tests := map[string]struct {
		rules []rbacv1.PolicyRule
		pool  string
		may   []string
		role  []string // lines of the Role for the rest
	}{
		"by name, of that pool":         {[]rbacv1.PolicyRule{see, execRule(both, "web")}, "web", []string{pools, exec}, nil},
		"by name, of another pool":      {[]rbacv1.PolicyRule{see, execRule(both, "web")}, "db", []string{pools}, []string{`resourceNames: ["db"]`, "verbs: [create, get]"}},
		"by name, without a pool named": {[]rbacv1.PolicyRule{see, execRule(both, "web")}, "", []string{pools}, []string{"verbs: [create, get]"}},
		"of all pools":                  {[]rbacv1.PolicyRule{see, execRule(both)}, "db", []string{pools, exec}, nil},
		"of one verb of two":            {[]rbacv1.PolicyRule{see, execRule([]string{"create"}, "db")}, "db", []string{pools}, []string{"verbs: [get]"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			account := permit(t, space, "doctor-"+strings.NewReplacer(" ", "-", ",", "").Replace(name), test.rules...)
			args := []string{"connpool", "--kubeconfig", kubeconfig(t, account, space), "doctor", "-o", "json"}
			if test.pool != "" {
				args = append(args, test.pool)
			}
			var stdout, stderr bytes.Buffer
			cli.Main(args, "test", genericiooptions.IOStreams{Out: &stdout, ErrOut: &stderr})
			var report struct {
				Rights []struct {
					What    string
					Allowed bool
				}
				Role string
			}
			if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
				t.Fatalf("%v: %s %s", err, &stdout, &stderr)
			}
			var may []string
			for _, right := range report.Rights {
				if right.Allowed {
					may = append(may, right.What)
				}
			}
			if diff := cmp.Diff(test.may, may); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			_, rest, hasExec := strings.Cut(report.Role, `resources: ["connectionpools/exec"]`)
			rule, _, _ := strings.Cut(rest, "- apiGroups")
			for _, line := range test.role {
				if !strings.Contains(rule, line) {
					t.Errorf("the Role lacks %q:\n%s", line, report.Role)
				}
			}
			if hasExec != (test.role != nil) {
				t.Errorf("the Role is\n%s", report.Role)
			}
		})
	}
}
