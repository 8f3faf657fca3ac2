// Package compile builds the programs of a release, the same way for the image and
// for the archives: static, without paths of this machine, with the commit in them.
//
//	path, err := compile.Program{Root: root, Version: "v1.2.3", OS: "darwin", Arch: "arm64"}.Build(ctx, "./cmd/kubectl-connpool", dir)
package compile

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Program is what the programs of a platform have in common.
type Program struct {
	// Root is the folder of the checkout.
	Root string
	// Version is what the program says its version is.
	Version string
	// OS and Arch are as Go names them.
	OS, Arch string
}

// Build builds a main package of the checkout into dir, and returns the path of the
// program. The flags are those of the Makefile and the Dockerfile.
func (p Program) Build(ctx context.Context, pkg, dir string) (string, error) {
	built := filepath.Join(dir, filepath.Base(pkg))
	if p.OS == "windows" {
		built += ".exe"
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto",
		"-ldflags", "-s -w -X main.set="+p.Version, "-o", built, pkg)
	command.Dir, command.Stderr = p.Root, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch)
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("go build %s for %s/%s: %w", pkg, p.OS, p.Arch, err)
	}
	return built, nil
}

// Time returns SOURCE_DATE_EPOCH, or else when the commit of the checkout was made.
// What is built carries it, so that nothing depends on when it is built.
// See https://reproducible-builds.org/specs/source-date-epoch/.
func Time(ctx context.Context, root string) (time.Time, error) {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		out, err := exec.CommandContext(ctx, "git", "-C", root, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("no commit says when it was made: set SOURCE_DATE_EPOCH: %w", err)
		}
		seconds = strings.TrimSpace(string(out))
	}
	number, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH must be seconds since 1970, not %q", seconds)
	}
	return time.Unix(number, 0).UTC(), nil
}
