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

// Downloading is an improvement where it works. Where it does not, nobody should
// wait long for that.
const (
	toolLimit     = time.Minute
	downloadLimit = 20 * time.Second
)

// setupEnvtest knows where the released programs are.
const setupEnvtest = "sigs.k8s.io/controller-runtime/tools/setup-envtest@v0.25.1"

// download gets the released set, which may be of another patch level.
func download(ctx context.Context, dir string, wanted release, say Say) error {
	say("asking for a released kube-apiserver and etcd %s, %s at most", wanted.minor(), downloadLimit)
	tools, err := os.MkdirTemp(dir, "tool-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tools) //nolint:errcheck // its parent goes too
	if err := installTool(ctx, tools); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "setup-envtest"),
		"use", wanted.minor()+".x", "--bin-dir", tools, "--print", "path")
	found, err := output(cmd)
	if err != nil {
		return err
	}
	for _, name := range programs() {
		if err := os.Rename(filepath.Join(strings.TrimSpace(found), name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func installTool(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", setupEnvtest)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off")
	_, err := output(cmd)
	return err
}

// build compiles the programs. The Go build cache makes a second time quick.
func build(ctx context.Context, root, dir string, wanted release, say Say) error {
	say("building kube-apiserver, etcd and kubectl %s from source: about 5 minutes the first time", wanted.kubernetes)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", linkerFlags(wanted), "-o", dir+"/",
		"./kube-apiserver", "./etcd", "./kubectl")
	cmd.Dir = filepath.Join(root, "hack", "controlplane")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	stop := SayEvery(30*time.Second, func(elapsed time.Duration) { say("still building, %s so far", elapsed) })
	defer stop()
	_, err := output(cmd)
	return err
}

// linkerFlags make the programs small and give Kubernetes its version, which is
// not in its sources.
func linkerFlags(wanted release) string {
	major, minor, _ := strings.Cut(wanted.minor(), ".")
	const version = "k8s.io/component-base/version."
	return fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s",
		version, wanted.kubernetes, major, minor)
}

// output runs a command and returns what it printed, or its complaint.
func output(cmd *exec.Cmd) (string, error) {
	process.Tie(cmd)
	complaint := new(bytes.Buffer)
	cmd.Stderr = complaint
	// What it started may hold its output open longer than it lives.
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, lastLine(complaint.String()))
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
