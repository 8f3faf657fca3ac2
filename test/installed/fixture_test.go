//go:build e2e

package installed

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
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/image"
	"github.com/connpool/connpool/test/leftovers"
	"github.com/connpool/connpool/test/node"
	"github.com/connpool/connpool/test/openssh"
)

const (
	// appsNamespace is the one that the pool cluster may use.
	appsNamespace = "apps"
	// The tags of two builds of the operator.
	older, newer = "older", "newer"
)

//go:embed testdata/fixture.yaml
var objects string

// fixture is what all tests share.
var fixture struct {
	root, dir string
	lock      *os.File

	plane  *controlplane.ControlPlane
	nodes  []*node.Node
	engine *dockerd.Engine
	ssh    *openssh.Server

	api    *kubernetes.Clientset
	worker *rest.Config
}

func TestMain(m *testing.M) { os.Exit(inWorld(m.Run)) }

func inWorld(run func() int) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	defer stopWorld()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		stopWorld()
		os.Exit(1)
	}()
	began := time.Now()
	if err := startWorld(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "start the fixture:", err)
		return 1
	}
	fmt.Printf("the fixture is ready after %s\n", time.Since(began).Round(100*time.Millisecond))
	return run()
}

func stopWorld() {
	if fixture.ssh != nil {
		fixture.ssh.Stop()
	}
	if fixture.engine != nil {
		fixture.engine.Stop()
	}
	for _, each := range slices.Backward(fixture.nodes) {
		each.Stop()
	}
	if fixture.plane != nil {
		fixture.plane.Stop()
	}
	if fixture.lock != nil {
		_ = os.RemoveAll(fixture.dir)
		_ = fixture.lock.Close()
	}
}

func startWorld(ctx context.Context) (err error) {
	const prefix = "connpool-installed-"
	leftovers.Sweep(prefix, func(string) {})
	if fixture.root, err = binaries.Checkout(); err != nil {
		return err
	}
	if fixture.dir, err = os.MkdirTemp("", prefix); err != nil {
		return err
	}
	if fixture.lock, err = leftovers.Claim(fixture.dir); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{findPrograms, startPlane, startNodes, importImages, startTargets, writeKubeconfigs} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func findPrograms(ctx context.Context) error {
	say := binaries.Printer(os.Stdout)
	programs, err := binaries.Ensure(ctx, say)
	if err != nil {
		return err
	}
	helm, err := binaries.EnsureHelm(ctx, say)
	if err != nil {
		return err
	}
	return os.Setenv("PATH", strings.Join([]string{filepath.Join(fixture.dir, newer), programs, helm, os.Getenv("PATH")}, ":"))
}

func startPlane(ctx context.Context) (err error) {
	options := controlplane.Options{ServiceAccounts: true, Say: binaries.Printer(os.Stdout)}
	if fixture.plane, err = controlplane.Start(ctx, options); err != nil {
		return err
	}
	fixture.api, err = kubernetes.NewForConfig(fixture.plane.Config)
	return err
}

// startNodes starts two nodes, so that the pods of one that is drained have a place.
func startNodes(ctx context.Context) error {
	for _, options := range []node.Options{{Name: "node-1"}, {Name: "node-2", Worker: true}} {
		options.Services, options.Say = true, binaries.Printer(os.Stdout)
		started, err := node.Start(ctx, &fixture.plane.Access, options)
		if err != nil {
			return err
		}
		fixture.nodes = append(fixture.nodes, started)
	}
	return nil
}

// importImages gives all nodes two builds of the operator, which differ in their
// version, and an image with a shell.
func importImages(ctx context.Context) error {
	shell, err := image.Busybox(dockerd.Image)
	if err != nil {
		return err
	}
	archives := [][]byte{shell}
	for _, version := range []string{older, newer} {
		built, err := build(ctx, version)
		if err != nil {
			return err
		}
		archives = append(archives, built)
	}
	for _, n := range fixture.nodes {
		for _, archive := range archives {
			if err := n.Import(ctx, archive); err != nil {
				return err
			}
		}
	}
	return nil
}

// build returns the image connpool:VERSION of the checkout's programs.
func build(ctx context.Context, version string) ([]byte, error) {
	bin := filepath.Join(fixture.dir, version)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.set="+version,
		"-o", bin+"/", "./cmd/manager", "./cmd/kubectl-connpool")
	cmd.Dir = fixture.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return image.Programs("connpool:"+version, filepath.Join(bin, "manager"), filepath.Join(bin, "kubectl-connpool"))
}

// startTargets starts a host and an engine at an address of the nodes, because pods
// have their own loopback.
func startTargets(ctx context.Context) (err error) {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if fixture.ssh, err = openssh.Start(ctx, openssh.Options{Address: address}); err != nil {
		return err
	}
	if address, err = freeAddress(); err != nil {
		return err
	}
	if fixture.engine, err = dockerd.New(ctx, dockerd.Options{Address: address}); err != nil {
		return err
	}
	_, err = fixture.engine.Container(ctx, "--name=web")
	return err
}

// freeAddress returns an address of the first node with a port that is free now.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(fixture.nodes[0].Address, "0"))
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func writeKubeconfigs(ctx context.Context) (err error) {
	if fixture.worker, err = fixture.plane.ServiceAccount(ctx, "default", "worker"); err != nil {
		return err
	}
	var failed []error
	for name, config := range map[string]*rest.Config{"admin": fixture.plane.Config, "worker": fixture.worker} {
		data, err := controlplane.Kubeconfig(config)
		failed = append(failed, err, os.WriteFile(kubeconfig(name), data, 0o600))
	}
	return errors.Join(append(failed, os.Setenv("KUBECONFIG", kubeconfig("worker")))...)
}

func kubeconfig(name string) string { return filepath.Join(fixture.dir, name+".kubeconfig") }

// manifest returns the targets, the pools, and who may use them.
func manifest(ctx context.Context) (string, error) {
	account, err := fixture.plane.ServiceAccount(ctx, appsNamespace, "connpool")
	if err != nil {
		return "", err
	}
	// The operator refuses the address of its own cluster's Service.
	account.Host, account.ServerName = "https://"+fixture.nodes[0].APIServer(), "kubernetes.default.svc"
	cluster, err := controlplane.Kubeconfig(account)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(fixture.ssh.Addr)
	if err != nil {
		return "", err
	}
	text := new(bytes.Buffer)
	err = template.Must(template.New("").Funcs(template.FuncMap{"indent": indent}).Parse(objects)).Execute(text, map[string]any{
		"Host": host, "Port": port, "User": fixture.ssh.User,
		"PrivateKey": string(fixture.ssh.PrivateKey), "KnownHosts": fixture.ssh.KnownHosts,
		"TCP": fixture.engine.TCP, "CA": string(fixture.engine.CA), "Cert": string(fixture.engine.Cert), "Key": string(fixture.engine.Key),
		"Kubeconfig": string(cluster), "Image": dockerd.Image, "Pools": []string{"host", "engine", "cluster"},
	})
	return text.String(), err
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
