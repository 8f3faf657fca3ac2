//go:build e2e

package e2e

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/image"
	"github.com/connpool/connpool/test/leftovers"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/node"
	"github.com/connpool/connpool/test/openssh"
)

// appsNamespace is the one that the pool cluster may use.
const appsNamespace = "apps"

// pools have the name of their one target.
var pools = []string{"host", "engine-unix", "engine-tls", "engine-ssh", "cluster"}

//go:embed testdata/fixture.yaml
var objects string

// fixture is what all tests share.
var fixture struct {
	dir, bin, programs string
	lock               *os.File // says that the directory is in use

	plane    *controlplane.ControlPlane
	node     *node.Node
	engine   *dockerd.Engine
	ssh      *openssh.Server
	operator *process.Process
	// The operator reaches the engine by TLS and the cluster through these, which
	// can be broken.
	engineLink, clusterLink *netfault.Proxy

	// worker may use pools, and nothing else: through kube-apiserver, and directly
	// at the operator.
	worker, direct *rest.Config
}

func TestMain(m *testing.M) { os.Exit(inWorld(m.Run)) }

func inWorld(run func() int) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	defer stopWorld()
	defer stopWhenInterrupted()()
	began := time.Now()
	if err := startWorld(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "start the fixture:", err)
		return 1
	}
	fmt.Printf("the fixture is ready after %s\n", time.Since(began).Round(100*time.Millisecond))
	return run()
}

// stopWhenInterrupted stops the fixture before a Ctrl-C ends the tests, until the
// returned function is called.
func stopWhenInterrupted() (forget func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, asked := <-signals; asked {
			stopWorld()
			os.Exit(1)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

func stopWorld() {
	if fixture.operator != nil {
		fixture.operator.Stop(10 * time.Second)
	}
	for _, link := range []*netfault.Proxy{fixture.engineLink, fixture.clusterLink} {
		if link != nil {
			link.Close()
		}
	}
	if fixture.ssh != nil {
		fixture.ssh.Stop()
	}
	if fixture.engine != nil {
		fixture.engine.Stop()
	}
	if fixture.node != nil {
		fixture.node.Stop()
	}
	if fixture.plane != nil {
		fixture.plane.Stop()
	}
	if fixture.dir != "" {
		_ = os.RemoveAll(fixture.dir)
		_ = fixture.lock.Close()
	}
}

func startWorld(ctx context.Context) (err error) {
	const prefix = "connpool-e2e-"
	leftovers.Sweep(prefix, func(string) {})
	if fixture.dir, err = os.MkdirTemp("", prefix); err != nil {
		return err
	}
	if fixture.lock, err = leftovers.Claim(fixture.dir); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		build, startPlane, startNode, startEngine, startSSH, startLinks, apply, startOperator, awaitReady,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// build compiles the programs of the checkout, and gets kubectl and helm.
func build(ctx context.Context) error {
	say := binaries.Printer(os.Stdout)
	root, err := binaries.Checkout()
	if err != nil {
		return err
	}
	fixture.bin = filepath.Join(fixture.dir, "bin")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", fixture.bin+"/", "./cmd/manager", "./cmd/kubectl-connpool")
	cmd.Dir = root
	process.Tie(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	if fixture.programs, err = binaries.Ensure(ctx, say); err != nil {
		return err
	}
	helm, err := binaries.EnsureHelm(ctx, say)
	if err != nil {
		return err
	}
	return os.Setenv("PATH", strings.Join([]string{fixture.bin, fixture.programs, helm, os.Getenv("PATH")}, ":"))
}

func startPlane(ctx context.Context) (err error) {
	if fixture.plane, err = controlplane.Start(ctx, controlplane.Options{Say: binaries.Printer(os.Stdout)}); err != nil {
		return err
	}
	root, err := binaries.Checkout()
	if err != nil {
		return err
	}
	if err := fixture.plane.InstallCRDs(ctx, filepath.Join(root, "config", "crd", "bases")); err != nil {
		return err
	}
	if err := fixture.plane.InstallPolicies(ctx, filepath.Join(root, "config", "admission")); err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(fixture.plane.Config)
	if err != nil {
		return err
	}
	apps := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: appsNamespace}}
	_, err = api.CoreV1().Namespaces().Create(ctx, apps, metav1.CreateOptions{})
	return err
}

func startNode(ctx context.Context) (err error) {
	fixture.node, err = node.Start(ctx, &fixture.plane.Access, node.Options{Say: binaries.Printer(os.Stdout)})
	if err != nil {
		return err
	}
	archive, err := image.Busybox(dockerd.Image)
	if err != nil {
		return err
	}
	return fixture.node.Import(ctx, archive)
}

// startEngine starts an engine with a container called web, which shares the
// folder of the ledgers.
func startEngine(ctx context.Context) (err error) {
	if err := os.Mkdir(ledgers(), 0o777); err != nil {
		return err
	}
	if fixture.engine, err = dockerd.New(ctx, dockerd.Options{}); err != nil {
		return err
	}
	_, err = fixture.engine.Container(ctx, "--name=web", "--volume="+ledgers()+":"+ledgers())
	return err
}

// ledgers is the folder where commands note that they ran: on this machine, in the container
// and in the pod.
func ledgers() string { return filepath.Join(fixture.dir, "ledgers") }

func startSSH(ctx context.Context) (err error) {
	fixture.ssh, err = openssh.Start(ctx, openssh.Options{})
	return err
}

func startLinks(context.Context) (err error) {
	if fixture.engineLink, err = netfault.Start(fixture.engine.TCP, netfault.Options{}); err != nil {
		return err
	}
	fixture.clusterLink, err = netfault.Start(strings.TrimPrefix(fixture.plane.Config.Host, "https://"), netfault.Options{})
	return err
}

// apply applies all targets and pools, and what they refer to.
func apply(ctx context.Context) (err error) {
	account, err := fixture.plane.ServiceAccount(ctx, appsNamespace, "connpool")
	if err != nil {
		return err
	}
	account.Host = "https://" + fixture.clusterLink.Addr
	cluster, err := controlplane.Kubeconfig(account)
	if err != nil {
		return err
	}
	if fixture.worker, err = fixture.plane.ServiceAccount(ctx, "default", "worker"); err != nil {
		return err
	}
	if err := writeKubeconfigs(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(fixture.ssh.Addr)
	if err != nil {
		return err
	}
	text := new(bytes.Buffer)
	functions := template.FuncMap{"indent": indent}
	err = template.Must(template.New("").Funcs(functions).Parse(objects)).Execute(text, map[string]any{
		"Host": host, "Port": port, "User": fixture.ssh.User,
		"PrivateKey": string(fixture.ssh.PrivateKey), "KnownHosts": fixture.ssh.KnownHosts,
		"Socket": fixture.engine.Socket, "TCP": fixture.engineLink.Addr,
		"CA": string(fixture.engine.CA), "Cert": string(fixture.engine.Cert), "Key": string(fixture.engine.Key),
		"Kubeconfig": string(cluster), "Ledgers": ledgers(), "Image": dockerd.Image, "Pools": pools,
	})
	if err != nil {
		return err
	}
	return asAdmin(ctx, text, "apply", "--server-side", "-f", "-")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

func writeKubeconfigs() error {
	var failed []error
	for name, config := range map[string]*rest.Config{"admin": fixture.plane.Config, "worker": fixture.worker} {
		data, err := controlplane.Kubeconfig(config)
		failed = append(failed, err, os.WriteFile(kubeconfig(name), data, 0o600))
	}
	return errors.Join(append(failed, os.Setenv("KUBECONFIG", kubeconfig("worker")))...)
}

func kubeconfig(name string) string { return filepath.Join(fixture.dir, name+".kubeconfig") }

// asAdmin runs kubectl as an administrator.
func asAdmin(ctx context.Context, stdin *bytes.Buffer, args ...string) error {
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{"--kubeconfig=" + kubeconfig("admin")}, args...)...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func startOperator(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		return err
	}
	err = fixture.plane.RegisterAPI(ctx, live.GroupName, live.GroupVersion.Version, int32(address.Port))
	if err != nil {
		return err
	}
	fixture.direct = &rest.Config{Host: "https://" + address.String(), BearerToken: fixture.worker.BearerToken, QPS: -1}
	fixture.operator, err = process.Start(process.Command{
		Name: "manager", Path: filepath.Join(fixture.bin, "manager"), Dir: fixture.dir,
		Args: []string{
			"--kubeconfig=" + kubeconfig("admin"),
			"--allow-cidrs=127.0.0.0/8", "--allow-local-sockets",
			"--metrics-bind-address=0", "--health-probe-bind-address=0",
			"--live-bind-address=" + address.String(), "--live-namespace=" + controlplane.APINamespace,
			"--leader-elect=false", "--drain-timeout=5s",
		},
	})
	return err
}

// awaitReady does what a pipeline does, and then learns the authority of the
// operator's own port.
func awaitReady(ctx context.Context) error {
	for _, args := range [][]string{
		{"wait", "--for=condition=Ready", "connectionpool", "--all", "--timeout=60s"},
		{"wait", "--for=condition=Ready", "pod/web", "--namespace=" + appsNamespace, "--timeout=60s"},
		{"wait", "--for=condition=Available", "apiservice/v1alpha1." + live.GroupName, "--timeout=60s"},
	} {
		if err := asAdmin(ctx, nil, args...); err != nil {
			return fmt.Errorf("%w\n%s", err, fixture.operator.LastLines(20))
		}
	}
	api, err := kubernetes.NewForConfig(fixture.plane.Config)
	if err != nil {
		return err
	}
	certificates, err := api.CoreV1().Secrets(controlplane.APINamespace).Get(ctx, controlplane.APIService+"-certs", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the authority of the live API: %w", err)
	}
	fixture.direct.CAData = certificates.Data["ca.crt"]
	return nil
}
