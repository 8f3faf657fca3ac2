package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/image"
)

// pauseImage is the image whose container holds the namespaces of a pod.
const pauseImage = "connpool.test/pause:1"

// Import adds an image archive of package test/image to the node. Pods name it with
// the policy Never or IfNotPresent, because the node cannot pull images.
func (n *Node) Import(ctx context.Context, archive []byte) error {
	_, err := n.ctr(ctx, bytes.NewReader(archive), "--namespace=k8s.io", "images", "import", "-")
	return err
}

func (n *Node) importPause(ctx context.Context) error {
	root, err := binaries.Checkout()
	if err != nil {
		return err
	}
	program := n.path("pause")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./test/node/pause")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./test/node/pause: %w: %s", err, out)
	}
	archive, err := image.Static(pauseImage, filepath.Clean(program))
	if err != nil {
		return err
	}
	return n.Import(ctx, archive)
}

// ctr runs containerd's client.
func (n *Node) ctr(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	path, err := find("ctr")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--address=" + n.Socket()}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("ctr %s: %w: %s", args[0], err, bytes.TrimSpace(complaint.Bytes())), context.Cause(ctx))
	}
	return out.String(), nil
}
