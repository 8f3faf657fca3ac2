package integration

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/openssh"
)

// crowd is many targets on one server behind one jump host, all in one pool.
type crowd struct {
	space               string
	jumpServer, webHost *openssh.Server
	jumpHost            *v1alpha1.ConnectionTarget
	pool                *v1alpha1.ConnectionPool
	size                int
}

// sshdDefaults are OpenSSH's own limits. The tests' servers have higher ones unless a
// test gives these.
var sshdDefaults = []string{"MaxStartups 10:30:100", "MaxSessions 10"}

func behindOneJumpHost(t *testing.T, size int, edits ...func(*v1alpha1.ConnectionPoolSpec)) crowd {
	t.Helper()
	c := crowd{
		space: namespace(t), size: size,
		jumpServer: startSSHD(t, sshdDefaults...), webHost: startSSHD(t, sshdDefaults...),
	}
	c.jumpHost = target(c.space, "jump", c.jumpServer, "jump-ssh")
	c.jumpHost.Labels = nil
	c.pool = pool(c.space, "web", "", append(edits, func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.TargetRef = nil
		spec.TargetSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	})...)
	return c
}

// start creates everything. The caller gives the credentials of the jump host.
func (c crowd) start(t *testing.T, jumpCredentials ...client.Object) {
	t.Helper()
	create(t, credentials(c.space, "web-ssh", c.webHost), c.pool, c.jumpHost)
	create(t, jumpCredentials...)
	for i := range c.size {
		web := target(c.space, fmt.Sprint("web-", i), c.webHost, "web-ssh")
		web.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: "jump"}
		create(t, web)
	}
}

// allReady waits until every target is ready, and returns how long it took.
func (c crowd) allReady(t *testing.T, bound time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	eventually(t, bound, fmt.Sprintf("%d targets are ready", c.size), func() (bool, string) {
		var targets v1alpha1.ConnectionTargetList
		err := env.client.List(t.Context(), &targets, client.InNamespace(c.space), client.MatchingLabels{"app": "web"})
		ready := 0
		for i := range targets.Items {
			if isTrue(&targets.Items[i], v1alpha1.ConditionReady) && observe(c.pool, &targets.Items[i]).Warm() > 0 {
				ready++
			}
		}
		return ready == c.size, fmt.Sprint(ready, " ready, ", err)
	})
	return time.Since(begun)
}

func (c crowd) jumpHostLogins() int { return strings.Count(c.jumpServer.Log(), "Accepted publickey") }

// F20 behind a jump host: 200 targets on one sshd, through another sshd, both with
// OpenSSH's own limits. Then the jump host's connection is killed, and with it the
// connections of all targets. The jump host is dialed again once for all of them.
func TestTwoHundredTargetsBehindOneJumpHostGetReadyAndSurviveItsLoss(t *testing.T) {
	c := behindOneJumpHost(t, 200)
	c.start(t, credentials(c.space, "jump-ssh", c.jumpServer))
	took := c.allReady(t, time.Minute)
	if n := c.jumpHostLogins(); n != 1 {
		t.Errorf("%d logins at the jump host, want 1", n)
	}
	found := condition(t, 5*time.Second, c.jumpHost, v1alpha1.ConditionReady, yes, v1alpha1.ReasonJumpHost)
	if connections := c.jumpHost.Status.Connections; connections.Warm == nil || *connections.Warm != 1 {
		t.Errorf("the jump host's connections are %+v, want one (%s)", connections, found.Message)
	}

	c.jumpServer.KillConnections()
	eventually(t, 10*time.Second, "the loss is noticed", func() (bool, string) { return c.jumpHostLogins() > 1, "" })
	again := c.allReady(t, time.Minute)
	if n := c.jumpHostLogins(); n != 2 {
		t.Errorf("%d logins at the jump host after its connection was killed once, want 2", n)
	}
	for _, server := range []*openssh.Server{c.jumpServer, c.webHost} {
		if log := server.Log(); strings.Contains(log, "MaxStartups") {
			t.Error("MaxStartups was reached")
		}
	}
	t.Logf("%d targets ready after %s, again after the jump host was lost after %s", c.size, took.Round(100*time.Millisecond), again.Round(100*time.Millisecond))
}

// F17 for jump hosts.
func TestAWrongKeyOfAJumpHostIsOfferedOnceForAll(t *testing.T) {
	begin := time.Now()
	c := behindOneJumpHost(t, 10, size(2, 4))
	wrong := credentials(c.space, "jump-ssh", c.jumpServer)
	wrong.Data["ssh-privatekey"] = newKey(t).private
	c.start(t, wrong)
	condition(t, 20*time.Second, c.jumpHost, v1alpha1.ConditionReady, no, v1alpha1.ReasonAuthenticationFailed)
	condition(t, time.Second, c.jumpHost, v1alpha1.ConditionStalled, yes, v1alpha1.ReasonAuthenticationFailed)
	for i := range c.size {
		web := &v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Namespace: c.space, Name: fmt.Sprint("web-", i)}}
		condition(t, 20*time.Second, web, v1alpha1.ConditionReady, no, v1alpha1.ReasonJumpTargetNotReady)
	}
	wantOneAttempt(t, c.jumpServer.Log(), begin)
	change(t, wrong, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = c.jumpServer.PrivateKey })
	c.allReady(t, 30*time.Second)
	condition(t, 5*time.Second, c.jumpHost, v1alpha1.ConditionReady, yes, v1alpha1.ReasonJumpHost)
}

// F04 for jump hosts.
func TestAFrozenJumpHostIsNoticedAndItsTargetsComeBack(t *testing.T) {
	c := behindOneJumpHost(t, 10)
	c.start(t, credentials(c.space, "jump-ssh", c.jumpServer))
	c.allReady(t, 30*time.Second)
	c.jumpServer.Freeze()
	t.Cleanup(c.jumpServer.Thaw)
	web := &v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Namespace: c.space, Name: "web-0"}}
	condition(t, time.Second, web, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	connected(t, 15*time.Second, c.pool, web, 0)
	condition(t, 40*time.Second, c.jumpHost, v1alpha1.ConditionReady, no, v1alpha1.ReasonTimeout)
	// A dial waits for its jump host for up to a minute before it fails.
	condition(t, 75*time.Second, web, v1alpha1.ConditionReady, no, v1alpha1.ReasonJumpTargetNotReady)
	c.jumpServer.Thaw()
	c.allReady(t, 75*time.Second)
	condition(t, 5*time.Second, c.jumpHost, v1alpha1.ConditionReady, yes, v1alpha1.ReasonJumpHost)
}

// The longest chain that is allowed, and what each of its targets says.
func TestAJumpTargetThatOnlyOthersNeedSaysSoAndCanBeChecked(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	var chain []*v1alpha1.ConnectionTarget
	for i, name := range []string{"outer", "middle", "inner", "web"} {
		ct := target(space, name, server, "web-ssh")
		if i > 0 {
			ct.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: chain[i-1].Name}
		}
		chain = append(chain, ct)
		create(t, ct)
	}
	create(t, credentials(space, "web-ssh", server))
	for _, jumpHost := range chain {
		condition(t, 10*time.Second, jumpHost, v1alpha1.ConditionReady, no, v1alpha1.ReasonNotSelected)
	}
	p := pool(space, "web", "web")
	create(t, p)
	condition(t, 20*time.Second, chain[3], v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	for _, jumpHost := range chain[:3] {
		condition(t, 10*time.Second, jumpHost, v1alpha1.ConditionReachable, yes, v1alpha1.ReasonConnected)
		condition(t, 10*time.Second, jumpHost, v1alpha1.ConditionReady, yes, v1alpha1.ReasonJumpHost)
		if jumpHost.Status.ServerVersion == nil || *jumpHost.Status.Connections.Warm != 1 {
			t.Errorf("%s: server %v, connections %+v", jumpHost.Name, jumpHost.Status.ServerVersion, jumpHost.Status.Connections)
		}
	}
	found := checkTarget(t, env.config, chain[2])
	if !found.Ready || !strings.Contains(stagesOf(found), "through the jump host middle") {
		t.Errorf("a check of the inner jump host says %s", stagesOf(found))
	}
	remove(t, p)
	for _, jumpHost := range chain {
		condition(t, 10*time.Second, jumpHost, v1alpha1.ConditionReady, no, v1alpha1.ReasonNotSelected)
	}
	eventually(t, 15*time.Second, "all connections are closed", func() (bool, string) {
		return server.Connections() == 0, strconv.Itoa(server.Connections())
	})
}

// checkTarget asks the live API to dial the target once.
func checkTarget(t *testing.T, config *rest.Config, ct *v1alpha1.ConnectionTarget) live.CheckStatus {
	t.Helper()
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("%s/apis/%s/namespaces/%s/connectiontargets/%s/check", config.Host, live.GroupVersion, ct.Namespace, ct.Name)
	var found live.Check
	eventually(t, 15*time.Second, "a check of "+ct.Name, func() (bool, string) {
		response, err := http.Post(url, "application/json", strings.NewReader(fmt.Sprintf(`{"apiVersion":%q,"kind":"Check"}`, live.GroupVersion)))
		if err != nil {
			return false, err.Error()
		}
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&found)
		return err == nil && len(found.Status.Stages) > 0, fmt.Sprint(response.Status, err)
	})
	return found.Status
}

func stagesOf(status live.CheckStatus) string {
	var text strings.Builder
	for _, stage := range status.Stages {
		fmt.Fprintf(&text, "%s %v: %s\n", stage.Name, stage.Passed, stage.Message)
	}
	return text.String()
}
