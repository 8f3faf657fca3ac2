package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// drain bounds how long the operator may take to end.
const drain = 5 * time.Second

// buildOperator compiles the operator of the checkout into bin, with the flags of
// `go test` and `go run`, so that what these have compiled is not compiled again.
func buildOperator(ctx context.Context, say binaries.Say) (path string, err error) {
	root, err := binaries.Checkout()
	if err != nil {
		return "", err
	}
	start := time.Now()
	path = filepath.Join(root, "bin", "manager")
	say("building the operator: a minute or two the first time")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/manager")
	cmd.Dir = root
	process.Tie(cmd)
	defer binaries.SayEvery(30*time.Second, func(so time.Duration) { say("still building, %s so far", so) })()
	complaint := new(bytes.Buffer)
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build ./cmd/manager: %w\n%s", err, complaint)
	}
	say("built bin/manager in %s", seconds(time.Since(start)))

	return path, nil
}

// startOperator starts the operator beside a lab.
func (l *Lab) startOperator(path string, metricsPort int) (*process.Process, error) {
	return process.Start(process.Command{
		Name: "manager",
		Path: path,
		Args: []string{
			"--kubeconfig=" + l.folder.kubeconfig(),
			"--allow-cidrs=127.0.0.0/8", // the lab's SSH server
			fmt.Sprintf("--metrics-bind-address=%s:%d", loopback, metricsPort),
			"--health-probe-bind-address=0",
			"--leader-elect=false",
			"--drain-timeout=" + drain.String(),
		},
		Dir: string(l.folder),
	})
}
