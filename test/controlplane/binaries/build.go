package binaries

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/connpool/connpool/test/controlplane/process"
)

// A download is quicker than a build. Where it does not work, the user must not wait
// long to find that out.
const (
	toolLimit     = time.Minute
	indexLimit    = 20 * time.Second
	downloadLimit = 3 * time.Minute
)

// buildLimit ends a build that hangs; a slow build takes less.
const buildLimit = time.Hour

// setupEnvtest is the tool that downloads the released programs.
const setupEnvtest = "sigs.k8s.io/controller-runtime/tools/setup-envtest@v0.25.1"

// download gets the released set. Its patch level may differ from the wanted one.
func (s set) download(ctx context.Context, dir string, wanted release, say Say) error {
	series := minor(wanted.version(kubernetes))
	say("asking for released programs of Kubernetes %s, %s at most", series, indexLimit)
	tools, err := os.MkdirTemp(dir, "tool-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tools) //nolint:errcheck // the caller removes its parent
	if err := installTool(ctx, tools); err != nil {
		return err
	}
	tool := filepath.Join(tools, "setup-envtest")
	// The index answers at once or not at all. The programs take longer.
	versions := series + ".x"
	if _, err := run(ctx, indexLimit, nil, tool, "list", versions, "--bin-dir", tools); err != nil {
		return err
	}
	say("downloading, %s at most", downloadLimit)
	found, err := run(ctx, downloadLimit, nil, tool, "use", versions, "--bin-dir", tools, "--print", "path")
	if err != nil {
		return err
	}
	for _, name := range s.programs() {
		if err := os.Rename(filepath.Join(strings.TrimSpace(found), name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func installTool(ctx context.Context, dir string) error {
	env := []string{"GOBIN=" + dir, "GOFLAGS=", "GOWORK=off"}
	_, err := run(ctx, toolLimit, env, "go", "install", setupEnvtest)
	return err
}

// build compiles the programs. The Go build cache makes a second build quick.
func (s set) build(ctx context.Context, root, dir string, wanted release, say Say) error {
	say("building %s from source: %s the first time", s, s.takes)
	defer SayEvery(30*time.Second, func(elapsed time.Duration) { say("still building, %s so far", elapsed) })()
	env := []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off"}
	args := []string{
		"-C", filepath.Join(root, "hack", s.module), "build",
		"-trimpath", "-ldflags", linkerFlags(wanted), "-o", dir + "/",
	}
	_, err := run(ctx, buildLimit, env, "go", append(args, s.packages...)...)
	return err
}

// linkerFlags returns the flags that make the programs small and give Kubernetes its
// version, which is not in its sources.
func linkerFlags(wanted release) string {
	const small, at = "-s -w", "k8s.io/component-base/version."
	version := wanted.version(kubernetes)
	if version == "" {
		return small
	}
	major, minor, _ := strings.Cut(minor(version), ".")
	return fmt.Sprintf("%[1]s -X %[2]sgitVersion=%[3]s -X %[2]sgitMajor=%[4]s -X %[2]sgitMinor=%[5]s",
		small, at, version, major, minor)
}

// run runs a command and returns what it printed. The error has the last line of its
// stderr.
func run(ctx context.Context, limit time.Duration, env []string, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no end within %s", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // whose variables choose the programs could run them
	cmd.Env = append(os.Environ(), env...)
	process.Tie(cmd)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(path), args[0], err, lastLine(stderr.String()))
	}
	return string(out), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// SayEvery calls say each period until the returned function is called.
func SayEvery(period time.Duration, say func(elapsed time.Duration)) (stop func()) {
	start, done := time.Now(), make(chan struct{})
	ticker := time.NewTicker(period)
	go func() {
		for {
			select {
			case <-ticker.C:
				say(time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
	}
}
