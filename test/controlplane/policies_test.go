package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

const teamNamespace = "default"

// policied is a control plane with the CRDs and the admission policies of the manifests,
// and two users: writer may write pools, and runner may also run commands in pool web.
type policied struct {
	*ControlPlane

	admin, writer, runner client.Client
}

func newPolicied(t *testing.T, flags ...string) *policied {
	t.Helper()
	plane, err := Start(t.Context(), Options{Say: t.Logf, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	if err := plane.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	p := &policied{ControlPlane: plane}
	p.admin, p.writer, p.runner = p.as(t, "admin", administrators), p.as(t, "writer"), p.as(t, "runner")
	writes := rbacv1.PolicyRule{
		APIGroups: []string{"connpool.dev"}, Resources: []string{"connectionpools"}, Verbs: []string{"get", "create", "update", "delete"},
	}
	runs := rbacv1.PolicyRule{
		APIGroups: []string{"live.connpool.dev"}, Resources: []string{"connectionpools/exec"}, ResourceNames: []string{"web"}, Verbs: []string{"create"},
	}
	p.grant(t, "writer", writes)
	p.grant(t, "runner", writes, runs)
	if err := plane.InstallPolicies(t.Context(), "../../config/admission"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is heeded", func() bool {
		return apierrors.IsForbidden(p.writer.Create(t.Context(), pool("probe", runsID), client.DryRunAll))
	})
	return p
}

func (p *policied) as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	config, err := p.User(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	known := runtime.NewScheme()
	_ = scheme.AddToScheme(known)
	_ = v1alpha1.AddToScheme(known)
	made, err := client.New(config, client.Options{Scheme: known})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (p *policied) grant(t *testing.T, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: teamNamespace, Name: user}
	for _, object := range []client.Object{
		&rbacv1.Role{ObjectMeta: meta, Rules: rules},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: user},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user}},
		},
	} {
		if err := p.admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true,
		func(context.Context) (bool, error) { return is(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func pool(name string, changes ...func(*v1alpha1.ConnectionPoolSpec)) *v1alpha1.ConnectionPool {
	made := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: teamNamespace, Name: name},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "web-1"}},
	}
	for _, change := range changes {
		change(&made.Spec)
	}
	return made
}

func runsID(spec *v1alpha1.ConnectionPoolSpec) { spec.Health.Command = []string{"id"} }
func runsOther(spec *v1alpha1.ConnectionPoolSpec) {
	spec.Health.Command = []string{"sh", "-c", "id > /tmp/x"}
}
func runsNone(spec *v1alpha1.ConnectionPoolSpec) { spec.Health.Command = nil }
func isLarger(spec *v1alpha1.ConnectionPoolSpec) { spec.Size.Max = new(int32(9)) }
func ofOther(spec *v1alpha1.ConnectionPoolSpec)  { spec.TargetRef.Name = "db-1" }
func ofMany(spec *v1alpha1.ConnectionPoolSpec) {
	spec.TargetRef, spec.TargetSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"role": "db"}}
}
func asIs(*v1alpha1.ConnectionPoolSpec) {}

func TestAHealthCommandNeedsExecOnItsPool(t *testing.T) {
	p := newPolicied(t)
	type change = func(*v1alpha1.ConnectionPoolSpec)
	for name, test := range map[string]struct {
		pool string
		// before is what an administrator has declared; nil means no pool.
		before, after change
		// writer and runner are whether these users may make it so.
		writer, runner bool
	}{
		"a pool without a command is created":           {"web", nil, asIs, true, true},
		"a pool with a command is created":              {"web", nil, runsID, false, true},
		"a pool that may not be run in is created":      {"db", nil, runsID, false, false},
		"a pool gets a command":                         {"web", asIs, runsID, false, true},
		"a pool that may not be run in gets a command":  {"db", asIs, runsID, false, false},
		"the command changes":                           {"web", runsID, runsOther, false, true},
		"the command is removed":                        {"web", runsID, runsNone, true, true},
		"a pool with a command grows":                   {"web", runsID, isLarger, true, true},
		"a pool with a command turns to another target": {"web", runsID, ofOther, false, true},
		"a pool with a command turns to many targets":   {"web", runsID, ofMany, false, true},
		"a pool without a command turns to many":        {"web", asIs, ofMany, true, true},
		"nothing changes":                               {"web", runsID, asIs, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for user, with := range map[string]client.Client{"writer": p.writer, "runner": p.runner} {
				err := p.declare(t, with, test.pool, test.before, test.after)
				may := map[string]bool{"writer": test.writer, "runner": test.runner}[user]
				if may && err != nil {
					t.Errorf("%s: %v", user, err)
				}
				if !may && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "connectionpools/exec") || !strings.Contains(err.Error(), user)) {
					t.Errorf("%s: %v; want a refusal that names the permission", user, err)
				}
			}
		})
	}
}

// declare makes an administrator declare a pool, and a user change it.
func (p *policied) declare(t *testing.T, with client.Client, name string, before, after func(*v1alpha1.ConnectionPoolSpec)) error {
	t.Helper()
	defer func() { _ = p.admin.Delete(context.WithoutCancel(t.Context()), pool(name)) }()
	if before == nil {
		return with.Create(t.Context(), pool(name, after))
	}
	declared := pool(name, before)
	if err := p.admin.Create(t.Context(), declared); err != nil {
		t.Fatal(err)
	}
	after(&declared.Spec)
	return with.Update(t.Context(), declared)
}

// auditedAll is an audit policy that logs every request with its annotations.
const auditedAll = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"

func TestKubeAPIServersAuditLogHasAdmittedHealthCommands(t *testing.T) {
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditedAll), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPolicied(t, "--audit-policy-file="+policy, "--audit-log-path="+log)
	if err := p.runner.Create(t.Context(), pool("web", runsOther)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log has the command and its user", func() bool {
		text, _ := os.ReadFile(log)
		return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
			return strings.Contains(line, `"username":"runner"`) &&
				strings.Contains(line, `"connpool-health-command/health-command":"pool default/web runs: sh -c id \u003e /tmp/x"`)
		})
	})
}
