package integration

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/atmostonce"
)

// permit returns the configuration of a ServiceAccount that has these rights in its
// namespace.
func permit(t *testing.T, namespace, account string, rules ...rbacv1.PolicyRule) *rest.Config {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: account}
	create(t, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	})
	config, err := env.plane.ServiceAccount(t.Context(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// execRule permits exec in the pools of these names; in all pools when there are none.
func execRule(verbs []string, pools ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{live.GroupName}, Resources: []string{"connectionpools/exec"}, ResourceNames: pools, Verbs: verbs,
	}
}

// viewRules returns the rules of config/rbac's role for users who may only look.
func viewRules(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	text, err := os.ReadFile("../../config/rbac/view_role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(text, &role); err != nil {
		t.Fatal(err)
	}
	return role.Rules
}

// FAULTS, section 4, row 1.
func TestOnlyWhoMayCreateRunsCommands(t *testing.T) {
	makeSSHUser(t)
	f := warm(t, startPlainSSHD(t), manySessions)
	space := f.pool.Namespace
	db := fixture{f.server, f.secret, f.target, pool(space, "db", f.target.Name)}
	create(t, db.pool)
	condition(t, 20*time.Second, db.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	both := []string{"create", "get"}
	tests := map[string]struct {
		account *rest.Config
		// may names the pools in which the account may run commands.
		may []string
	}{
		"who may only get":           {permit(t, space, "getter", execRule([]string{"get"})), nil},
		"who may only view":          {permit(t, space, "viewer", viewRules(t)...), nil},
		"who may nothing":            {permit(t, space, "powerless"), nil},
		"who may exec in one pool":   {permit(t, space, "web-only", execRule(both, "web")), []string{"web"}},
		"who may exec in every pool": {permit(t, space, "everywhere", execRule(both)), []string{"web", "db"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, pool := range []fixture{f, db} {
				allowed := strings.Contains(strings.Join(tc.may, " "), pool.pool.Name)
				for prefix, config := range map[string]*rest.Config{"direct ": directly(t, tc.account), "proxied ": tc.account} {
					clients, err := poolOf(pool, config).Clients(prefix)
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range clients {
						tryToRun(t, pool, c, allowed)
						c.Close()
					}
				}
			}
		})
	}
	viewer := tests["who may only view"].account
	looking, err := client.New(viewer, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(live.GroupVersion.WithKind("ConnectionList"))
	if err := looking.List(t.Context(), list, client.InNamespace(space)); err != nil || len(list.Items) == 0 {
		t.Errorf("the viewer sees %d connections: %v", len(list.Items), err)
	}
}

// tryToRun runs a command that leaves a mark. If it is not allowed, it must be refused
// and leave none.
func tryToRun(t *testing.T, f fixture, c atmostonce.Client, allowed bool) {
	t.Helper()
	marks := marksOn(t, f.server)
	run := func() atmostonce.Report { return c.Run(t.Context(), "echo ran >>"+marks) }
	if allowed {
		eventually(t, 15*time.Second, c.Name+" in pool "+f.pool.Name, func() (bool, string) {
			report := run()
			return report.Outcome == live.OutcomeCompleted, errorText(report.Err)
		})
		return
	}
	report := run()
	if report.Outcome != live.OutcomeNotStarted || !strings.Contains(strings.ToLower(errorText(report.Err)), "forbidden") {
		t.Errorf("%s in pool %s: %s, %v; want it forbidden", c.Name, f.pool.Name, report.Outcome, report.Err)
	}
	if text, err := os.ReadFile(marks); err != nil || len(text) > 0 {
		t.Errorf("%s in pool %s: the command ran (%v)", c.Name, f.pool.Name, err)
	}
}

// lasting is a stream that lasts until the operator or the server ends it.
type lasting struct {
	marks string
	ended chan ended
}

type ended struct {
	err error
	at  time.Time
}

func startLasting(t *testing.T, f fixture, config *rest.Config, run stream) lasting {
	t.Helper()
	l := lasting{marksOn(t, f.server), make(chan ended, 1)}
	go func() {
		streams := remotecommand.StreamOptions{Stdout: io.Discard}
		err := run(context.WithoutCancel(t.Context()), config, f, trapped(l.marks), streams)
		l.ended <- ended{err, time.Now()}
	}()
	awaitMark(t, 10*time.Second, l.marks, "started")
	return l
}

// cutStream is a stream whose permission, pool, target or Secret was removed.
type cutStream struct {
	lasting

	since time.Time
	says  string
}

func (c cutStream) endsWithin(t *testing.T, bound time.Duration) {
	t.Helper()
	select {
	case e := <-c.ended:
		if took := e.at.Sub(c.since); took > bound {
			t.Errorf("the stream ended after %s, want %s at most", took, bound)
		}
		if !strings.Contains(errorText(e.err), c.says) {
			t.Errorf("the stream ended with %v, want %q", e.err, c.says)
		}
		t.Logf("after %s: %v", e.at.Sub(c.since).Round(time.Millisecond), e.err)
	case <-time.After(bound - time.Since(c.since) + time.Second):
		t.Errorf("the stream still runs after %s", bound)
	}
}

// FAULTS, section 4, row 11.
func TestStreamsEndWithWhatPermittedThem(t *testing.T) {
	makeSSHUser(t)
	const revoked, cut = "the permission was revoked", "may have run, and its outcome is not known"
	tests := map[string]struct {
		end  func(*testing.T, fixture)
		says string
	}{
		"the permission": {func(t *testing.T, f fixture) {
			remove(t, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: f.pool.Namespace, Name: "worker"}})
		}, revoked},
		"the ServiceAccount": {func(t *testing.T, f fixture) {
			remove(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: f.pool.Namespace, Name: "worker"}})
		}, revoked},
		"the pool":   {func(t *testing.T, f fixture) { remove(t, f.pool) }, cut},
		"the target": {func(t *testing.T, f fixture) { remove(t, f.target) }, cut},
		"the Secret": {func(t *testing.T, f fixture) { remove(t, f.secret) }, cut},
	}
	streams := map[string]stream{"WebSocket": webSocket, "SPDY": spdy, "the JSON form": jsonForm}
	running := map[string]cutStream{}
	for what, tc := range tests {
		f, config := usable(t, manySessions)
		lasting := map[string]lasting{}
		for name, run := range streams {
			lasting[name] = startLasting(t, f, config, run)
		}
		tc.end(t, f)
		for name, l := range lasting {
			running[name+" without "+what] = cutStream{l, time.Now(), tc.says}
		}
	}
	for name, c := range running {
		t.Run(name, func(t *testing.T) {
			c.endsWithin(t, 45*time.Second)
			if c.says == revoked {
				awaitMark(t, 5*time.Second, c.marks, "signaled")
			}
		})
	}
}

// FAULTS, section 4, row 12; leakedSecrets looks for the canary at the end.
func TestWhatCommandsAreGivenIsNotLogged(t *testing.T) {
	makeSSHUser(t)
	f, direct := usable(t)
	const shell = `read -r line; test "$line" = "$TOKEN"`
	for name, config := range map[string]*rest.Config{"directly": direct, "through kube-apiserver": proxied(direct)} {
		t.Run(name, func(t *testing.T) {
			c, err := goclient.New(config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			given := func() goclient.Command {
				return goclient.Command{Shell: shell, Env: map[string]string{"TOKEN": canary}, Stdin: strings.NewReader(canary + "\n")}
			}
			eventually(t, 15*time.Second, "the JSON form", func() (bool, string) {
				_, err := c.Pool(f.pool.Namespace, f.pool.Name).Exec(t.Context(), given())
				return err == nil, errorText(err)
			})
			if _, err := c.Pool(f.pool.Namespace, f.pool.Name).Stream(t.Context(), given(), goclient.Streams{}); err != nil {
				t.Errorf("a stream: %v", err)
			}
		})
	}
}
