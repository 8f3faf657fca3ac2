package chart_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// cluster is one API server, with the controllers that delete what is in a namespace.
var cluster struct {
	kubeconfig string
	config     *rest.Config
	admin      client.Client
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	ctx := context.Background()
	plane, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a control plane:", err)
		return 1
	}
	defer plane.Stop()
	controllers, err := startControllers(ctx, plane)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the controllers:", err)
		return 1
	}
	defer controllers.Stop(0)
	return m.Run()
}

func startControllers(ctx context.Context, plane *controlplane.ControlPlane) (*process.Process, error) {
	kubeconfig, err := controlplane.Kubeconfig(plane.Config)
	if err != nil {
		return nil, err
	}
	cluster.config = plane.Config
	cluster.kubeconfig = filepath.Join(plane.Dir, "admin.kubeconfig")
	api, clientErr := client.New(plane.Config, client.Options{})
	cluster.admin = client.WithFieldValidation(api, "Strict")
	programs, programsErr := binaries.EnsureNode(ctx, binaries.Printer(os.Stderr))
	if err := errors.Join(clientErr, programsErr, os.WriteFile(cluster.kubeconfig, kubeconfig, 0o600)); err != nil {
		return nil, err
	}
	return process.Start(process.Command{
		Name: "kube-controller-manager", Path: filepath.Join(programs, "kube-controller-manager"), Dir: plane.Dir,
		Args: []string{
			"--kubeconfig=" + cluster.kubeconfig,
			"--controllers=namespace-controller,garbage-collector-controller",
			"--leader-elect=false",
			"--secure-port=0", // its metrics are not used
		},
	})
}
