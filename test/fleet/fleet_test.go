package fleet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/process"
)

// checkout is the root of the checkout.
const checkout = "../.."

// The settings of a run by hand.
var (
	soak    = flag.Duration("soak", 10*time.Second, "how long objects change in the spoke")
	watches = flag.Int("watches", 200, "how many watches run at the same time")
	rate    = flag.Float64("rate", 20, "changes in the spoke per second")
)

// environment is two real control planes, and the built operator beside the first.
type environment struct {
	hub, spoke *controlplane.ControlPlane
	client     client.Client // of the hub
	admin      client.Client // of the spoke
	operator   *process.Process
	flags      []string
	dir        string
	profiles   string // their address
}

var env environment

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the clusters and the operator:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctrl.SetLogger(logr.Discard()) // of this process
	klog.SetLogger(logr.Discard())
	if env.dir, err = os.MkdirTemp("", "connpool-fleet-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(env.dir) //nolint:errcheck // a temporary directory
	if env.hub, err = controlplane.Start(context.Background(), controlplane.Options{}); err != nil {
		return 1, err
	}
	defer env.hub.Stop()
	if env.spoke, err = controlplane.Start(context.Background(), controlplane.Options{}); err != nil {
		return 1, err
	}
	defer env.spoke.Stop()
	if err := env.prepare(); err != nil {
		return 1, err
	}
	if err := env.launch(); err != nil {
		return 1, err
	}
	defer func() { env.operator.Stop(5 * time.Second) }()
	return m.Run(), nil
}

// prepare installs the API in the hub, and builds the operator.
func (e *environment) prepare() error {
	if err := e.hub.InstallCRDs(context.Background(), filepath.Join(checkout, "config", "crd", "bases")); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err != nil {
		return err
	}
	if e.client, err = client.New(e.hub.Config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if e.admin, err = client.New(e.spoke.Config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", e.program(), "./cmd/manager")
	build.Dir = checkout
	if complaint, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/manager: %w\n%s", err, complaint)
	}
	e.flags, err = e.operatorFlags()
	return err
}

func (e *environment) program() string { return filepath.Join(e.dir, "manager") }

// launch starts the operator, also after an earlier one was stopped.
func (e *environment) launch() (err error) {
	e.operator, err = process.Start(process.Command{Name: "manager", Path: e.program(), Args: e.flags, Dir: e.dir})
	return err
}

func (e *environment) operatorFlags() ([]string, error) {
	kubeconfig, err := e.hub.Kubeconfig()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(e.dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	profiles, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer profiles.Close()
	e.profiles = profiles.Addr().String()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := e.hub.RegisterAPI(context.Background(), live.GroupName, live.GroupVersion.Version, int32(port)); err != nil {
		return nil, err
	}
	return []string{
		"--kubeconfig=" + file, "--allow-cidrs=127.0.0.0/8", "--metrics-bind-address=0", "--pprof-bind-address=" + e.profiles,
		"--health-probe-bind-address=0", "--leader-elect=false",
		"--live-bind-address=" + listener.Addr().String(), "--live-namespace=" + controlplane.APINamespace, "--drain-timeout=2s",
	}, nil
}
