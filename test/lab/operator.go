package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// drain bounds how long the operator may take to end.
const drain = 5 * time.Second

// buildOperator compiles the operator and the kubectl plugin of the checkout into
// bin, with the flags of `go test` and `go run`, so that what these have compiled
// is not compiled again.
func buildOperator(ctx context.Context, say binaries.Say) (path string, err error) {
	root, err := binaries.Checkout()
	if err != nil {
		return "", err
	}
	start := time.Now()
	path = filepath.Join(root, "bin", "manager")
	say("building the operator and the kubectl plugin: a minute or two the first time")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Dir(path)+string(filepath.Separator), "./cmd/manager", "./cmd/kubectl-connpool")
	cmd.Dir = root
	process.Tie(cmd)
	defer binaries.SayEvery(30*time.Second, func(so time.Duration) { say("still building, %s so far", so) })()
	complaint := new(bytes.Buffer)
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build ./cmd/...: %w\n%s", err, complaint)
	}
	say("built bin/manager and bin/kubectl-connpool in %s", seconds(time.Since(start)))
	return path, nil
}

// registerAPI tells kube-apiserver where the operator's live API will be.
func (l *Lab) registerAPI(ctx context.Context, port int) (address string, err error) {
	if port == 0 {
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
		port = listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
	}
	return fmt.Sprintf("%s:%d", loopback, port),
		l.access.RegisterAPI(ctx, live.GroupName, live.GroupVersion.Version, int32(port))
}

// startOperator starts the operator beside a lab.
func (l *Lab) startOperator(path string, metricsPort int, liveAddress string) (*process.Process, error) {
	return process.Start(process.Command{
		Name: "manager",
		Path: path,
		Args: []string{
			"--kubeconfig=" + l.folder.kubeconfig(),
			"--allow-cidrs=127.0.0.0/8", // the lab's SSH and API servers
			"--allow-local-sockets",     // its Docker engine
			fmt.Sprintf("--metrics-bind-address=%s:%d", loopback, metricsPort),
			"--health-probe-bind-address=0",
			"--live-bind-address=" + liveAddress,
			"--live-namespace=" + controlplane.APINamespace,
			"--leader-elect=false",
			"--drain-timeout=" + drain.String(),
		},
		Dir: string(l.folder),
	})
}
