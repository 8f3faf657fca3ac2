package dockerd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/connpool/connpool/test/image"
)

// Image is the image that Container runs.
const Image = "connpool.test/busybox:1"

// Load loads an archive of images, as image.Busybox makes them.
func (e *Engine) Load(ctx context.Context, archive []byte) error {
	_, err := e.docker(ctx, bytes.NewReader(archive), "load")
	return err
}

// Container starts a container with a busybox that runs until it is removed, and
// returns its name. Options are further ones of `docker run`, such as
// "--volume=/tmp:/tmp" or "--name=web".
func (e *Engine) Container(ctx context.Context, options ...string) (string, error) {
	if err := e.loadImage(ctx); err != nil {
		return "", err
	}
	arguments := append([]string{"run", "--detach"}, options...)
	id, err := e.Docker(ctx, append(arguments, Image, "sleep", "2147483647")...)
	if err != nil {
		return "", err
	}
	name, err := e.Docker(ctx, "inspect", "--format={{.Name}}", strings.TrimSpace(id))
	return strings.Trim(strings.TrimSpace(name), "/"), err
}

func (e *Engine) loadImage(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.image != "" {
		return nil
	}
	archive, err := image.Busybox(Image)
	if err != nil {
		return err
	}
	if err := e.Load(ctx, archive); err != nil {
		return err
	}
	e.image = Image
	return nil
}

// Docker runs the command line client on the engine's unix socket and returns
// its output.
func (e *Engine) Docker(ctx context.Context, arguments ...string) (string, error) {
	return e.docker(ctx, nil, arguments...)
}

func (e *Engine) docker(ctx context.Context, stdin io.Reader, arguments ...string) (string, error) {
	cmd, err := Command(ctx, "unix://"+e.Socket, arguments...)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s", arguments[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Command is the command line client, as found in the PATH, for an engine; it
// reads no configuration of its user's.
func Command(ctx context.Context, host string, arguments ...string) (*exec.Cmd, error) {
	program, err := find("docker")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "DOCKER_")
	}), "DOCKER_HOST="+host, "DOCKER_CONFIG=/nonexistent")
	return cmd, nil
}

// KillShim kills the supervisor of a running container (SIGKILL), and nothing else.
func (e *Engine) KillShim(ctx context.Context, container string) error {
	text, err := e.Docker(ctx, "inspect", "--format={{.State.Pid}}", container)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("the process of container %s: %w", container, err)
	}
	shim := parentOf(pid)
	if shim <= 1 {
		return fmt.Errorf("container %s has no supervisor", container)
	}
	return syscall.Kill(shim, syscall.SIGKILL)
}
