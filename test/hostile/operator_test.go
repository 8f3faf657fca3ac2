package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/process"
)

// checkout is the root of the checkout.
const checkout = "../.."

// environment is one real control plane, and the built operator beside it.
type environment struct {
	plane    *controlplane.ControlPlane
	client   client.Client
	operator *process.Process
	innocent *neighbor
	lift     func() // the limit of the operator's memory
	flags    []string
	dir      string
	address  string // of the live API
	metrics  string // their address
	profiles string // their address
	limit    int64  // bytes that the operator may hold
}

var env environment

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the operator:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctrl.SetLogger(logr.Discard()) // of this process
	if env.dir, err = os.MkdirTemp("", "connpool-hostile-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(env.dir) //nolint:errcheck // a temporary directory
	if env.plane, err = controlplane.Start(context.Background(), controlplane.Options{}); err != nil {
		return 1, err
	}
	defer env.plane.Stop()
	if err := env.plane.InstallCRDs(context.Background(), filepath.Join(checkout, "config", "crd", "bases")); err != nil {
		return 1, err
	}
	if err := newClient(); err != nil {
		return 1, err
	}
	if err := prepareOperator(); err != nil {
		return 1, err
	}
	if err := env.launch(); err != nil {
		return 1, err
	}
	defer func() { env.operator.Stop(5 * time.Second); env.lift() }()
	return m.Run(), nil
}

func newClient() (err error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	env.client, err = client.New(env.plane.Config, client.Options{Scheme: scheme})
	return err
}

// prepareOperator builds the operator, and reads its limit and its environment from the
// Deployment.
func prepareOperator() error {
	build := exec.Command("go", "build", "-o", env.program(), "./cmd/manager")
	build.Dir = checkout
	if complaint, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/manager: %w\n%s", err, complaint)
	}
	container, err := deployed()
	if err != nil {
		return err
	}
	if err := setEnvironment(container); err != nil {
		return err
	}
	env.limit = container.Resources.Limits.Memory().Value()
	env.flags, err = flags()
	return err
}

func (e *environment) program() string { return filepath.Join(e.dir, "manager") }

// launch starts the operator under its limit, also after an earlier one has died.
func (e *environment) launch() (err error) {
	var script []string
	script, e.lift = underLimit(e.limit, e.program(), e.flags)
	e.operator, err = process.Start(process.Command{Name: "manager", Path: "/bin/sh", Args: script, Dir: e.dir})
	return err
}

// revive starts the operator anew if it has died, and returns why it has.
func (e *environment) revive(t *testing.T) error {
	t.Helper()
	select {
	case <-e.operator.Exited():
	case <-time.After(time.Second): // the kernel takes some time to kill it
		return nil
	}
	died := e.operator.Err()
	e.lift()
	if err := e.launch(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the neighbor runs commands again", func(context.Context) (bool, string) {
		_, err := e.innocent.command()
		return err == nil, errorText(err)
	})
	return died
}

// deployed returns the container that config/manager/deployment.yaml describes.
func deployed() (corev1.Container, error) {
	text, err := os.ReadFile(filepath.Join(checkout, "config", "manager", "deployment.yaml"))
	if err != nil {
		return corev1.Container{}, err
	}
	var deployment appsv1.Deployment
	if err := yaml.Unmarshal(text, &deployment); err != nil {
		return corev1.Container{}, err
	}
	return deployment.Spec.Template.Spec.Containers[0], nil
}

// setEnvironment sets what the operator inherits. The kubelet would put in the limit
// where the Deployment refers to it.
func setEnvironment(container corev1.Container) error {
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			if from.ResourceFieldRef == nil || from.ResourceFieldRef.Resource != "limits.memory" {
				continue
			}
			value = strconv.FormatInt(container.Resources.Limits.Memory().Value(), 10)
		}
		if err := os.Setenv(variable.Name, value); err != nil {
			return err
		}
	}
	return nil
}

func flags() ([]string, error) {
	kubeconfig, err := env.plane.Kubeconfig()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(env.dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer metrics.Close()
	profiles, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer profiles.Close()
	env.address, env.metrics, env.profiles = listener.Addr().String(), metrics.Addr().String(), profiles.Addr().String()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := env.plane.RegisterAPI(context.Background(), live.GroupName, live.GroupVersion.Version, int32(port)); err != nil {
		return nil, err
	}
	return []string{
		"--kubeconfig=" + file, "--allow-cidrs=127.0.0.0/8", "--allow-local-sockets",
		"--metrics-bind-address=" + env.metrics, "--pprof-bind-address=" + env.profiles,
		"--health-probe-bind-address=0", "--leader-elect=false",
		"--live-bind-address=" + env.address, "--live-namespace=" + controlplane.APINamespace, "--drain-timeout=1s",
	}, nil
}
