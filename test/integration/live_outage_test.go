package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/atmostonce"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/process"
)

// ownPlane replaces the shared control plane and operator by new ones for one test,
// which may break them. The operator is a process of its own.
func ownPlane(t *testing.T) {
	t.Helper()
	ownControlPlane(t)
	startOwnOperator(t, adminKubeconfig(t))
}

// adminKubeconfig writes the kubeconfig of the control plane's administrator.
func adminKubeconfig(t *testing.T) (path string) {
	t.Helper()
	kubeconfig, err := env.plane.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(env.plane.Dir, "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ownControlPlane does the same without an operator.
func ownControlPlane(t *testing.T) {
	t.Helper()
	shared := struct {
		client client.Client
		live   string
		plane  *controlplane.ControlPlane
	}{env.client, env.live, env.plane}
	config := env.config
	t.Cleanup(func() {
		env.client, env.live, env.plane, env.config = shared.client, shared.live, shared.plane, config
	})
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	env.plane, env.config, env.live = plane, plane.Config, freeAddress()
	_, port := split(env.live)
	if env.client, err = client.New(plane.Config, client.Options{Scheme: shared.client.Scheme()}); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(installAPI(t.Context(), plane),
		plane.RegisterAPI(t.Context(), live.GroupName, live.GroupVersion.Version, port))
	if err != nil {
		t.Fatal(err)
	}
}

// startOwnOperator starts an operator with more flags as the user of a kubeconfig.
func startOwnOperator(t *testing.T, kubeconfig string, flags ...string) *process.Process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(playOperator, "yes")
	_, port := split(env.live) // the name is that of its log, too
	operator, err := process.Start(process.Command{
		Name: "operator-" + itoa(port), Path: program, Dir: env.plane.Dir,
		Args: append([]string{
			"--kubeconfig=" + kubeconfig, "--allow-cidrs=127.0.0.0/8", "--metrics-bind-address=0", "--health-probe-bind-address=0",
			"--live-bind-address=" + env.live, "--live-namespace=" + controlplane.APINamespace, "--drain-timeout=1s",
			"--leader-elect", "--leader-elect-namespace=" + controlplane.APINamespace,
		}, flags...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the operator's log:\n%s", operator.LastLines(30))
		}
		operator.Stop(0)
	})
	return operator
}

// outage freezes kube-apiserver for some time. Its clients get no answer.
func outage(t *testing.T, lasts time.Duration) atmostonce.Fault {
	t.Helper()
	pid, err := process.ReadPid(filepath.Join(env.plane.Dir, "kube-apiserver.pid"))
	if err != nil || pid == 0 {
		t.Fatalf("kube-apiserver has no pid: %v", err)
	}
	over := make(chan struct{})
	return atmostonce.Fault{
		Strikes: 1, Patience: lasts,
		Strike: func(context.Context) error {
			time.AfterFunc(lasts, func() { close(over) })
			return syscall.Kill(pid, syscall.SIGSTOP)
		},
		Heal: func(context.Context) error {
			<-over
			return syscall.Kill(pid, syscall.SIGCONT)
		},
	}
}

// F29, with an outage of 45 s instead of five minutes. That is enough: every timeout
// and every cache on the path, and the leader's Lease, are shorter.
func TestAnOutageOfTheAPIServerCutsNothing(t *testing.T) {
	makeSSHUser(t)
	ownPlane(t)
	f, direct := usable(t, manySessions)
	clients, err := poolOf(f, direct).Clients("direct ")
	if err != nil {
		t.Fatal(err)
	}
	streams := map[string]lasting{}
	for name, run := range map[string]stream{"WebSocket": webSocket, "SPDY": spdy, "the JSON form": jsonForm} {
		streams[name] = startLasting(t, f, direct, run)
	}
	before := connectionNames(t, f)
	// The pause makes the load last longer than kube-apiserver's answers are cached.
	load := atmostonce.Load{Ledger: ledgerOn(t, f.server), Clients: clients, Commands: 120, Parallel: 8, Lines: 40, Pause: time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	summary, err := load.Run(ctx, outage(t, 45*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(summary)
	for reason, n := range summary.Reasons {
		t.Logf("%d times %s", n, reason)
	}
	if err := summary.Err(); err != nil {
		t.Error(err)
	}
	if summary.NotStarted == 0 {
		t.Error("no command was refused: authorization did not fail closed")
	}
	for _, c := range everyClient(t, f, proxied(direct)) {
		t.Logf("%s works again", c.Name)
	}
	after := connectionNames(t, f)
	for _, name := range before {
		if !slices.Contains(after, name) {
			t.Errorf("connection %s was lost", name)
		}
	}
	for name, l := range streams {
		select {
		case e := <-l.ended:
			t.Errorf("%s ended: %v", name, e.err)
		default:
		}
	}
}

func connectionNames(t *testing.T, f fixture) (names []string) {
	t.Helper()
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(live.GroupVersion.WithKind("ConnectionList"))
	eventually(t, 15*time.Second, "the connections are listed", func() (bool, string) {
		err := env.client.List(t.Context(), list, client.InNamespace(f.pool.Namespace))
		return err == nil && len(list.Items) > 0, errorText(err)
	})
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}
