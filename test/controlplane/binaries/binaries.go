// Package binaries gets the programs of a control plane: kube-apiserver, etcd
// and kubectl.
//
//	dir, err := binaries.Ensure(ctx, binaries.Printer(os.Stderr))
//
// They come, in this order, from KUBEBUILDER_ASSETS, from bin/k8s of the
// checkout, from a cache that all checkouts of the user share, from the released
// set that setup-envtest downloads, and from source: hack/controlplane is a
// module that builds all three, so that nothing but a Go module proxy is needed.
// Building takes minutes, once; the first of several callers builds and the
// others wait for it.
package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// assets is the variable by which kubebuilder's tools are told of a folder.
const assets = "KUBEBUILDER_ASSETS"

// stampFile, in bin/k8s, holds the release its programs are of.
const stampFile = "RELEASE"

// Say tells the user of something that takes long.
type Say func(format string, args ...any)

// Printer says things line by line.
func Printer(out io.Writer) Say {
	return func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
}

// programs make the set complete.
func programs() []string { return []string{"kube-apiserver", "etcd", "kubectl"} }

// Ensure returns the folder that has all programs, getting or building them
// first where they are missing.
func Ensure(ctx context.Context, say Say) (dir string, err error) {
	if dir := os.Getenv(assets); dir != "" {
		return dir, complete(dir)
	}
	root, err := Checkout()
	if err != nil {
		return "", err
	}
	wanted, err := wantedRelease(root)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", "k8s")
	if isStamped(bin, wanted) {
		return bin, nil
	}
	cache, err := cached(ctx, root, wanted, say)
	if err != nil {
		return "", err
	}
	return bin, publish(cache, bin, wanted)
}

// Checkout is the root of the checkout that the working directory is in.
func Checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		module, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(module), "module github.com/connpool/connpool\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("this is no checkout of connpool: change into one")
		}
	}
}

// release is what a set of programs was made from, and for what.
type release struct {
	kubernetes, etcd string
}

// String names the set, also as a folder.
func (r release) String() string {
	return fmt.Sprintf("kubernetes-%s-etcd-%s-%s-%s", r.kubernetes, r.etcd, runtime.GOOS, runtime.GOARCH)
}

// minor is the version without its patch level: 1.37.
func (r release) minor() string {
	parts := strings.SplitN(strings.TrimPrefix(r.kubernetes, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// wantedRelease reads which versions hack/controlplane builds.
func wantedRelease(root string) (release, error) {
	module, err := os.ReadFile(filepath.Join(root, "hack", "controlplane", "go.mod"))
	if err != nil {
		return release{}, err
	}
	r := release{
		kubernetes: requirement(module, `k8s\.io/kubernetes`),
		etcd:       requirement(module, `go\.etcd\.io/etcd/server/v3`),
	}
	if r.kubernetes == "" || r.etcd == "" {
		return release{}, errors.New("hack/controlplane/go.mod requires no kubernetes or no etcd")
	}
	return r, nil
}

func requirement(module []byte, pattern string) string {
	match := regexp.MustCompile(`(?m)^\s*` + pattern + ` (v\S+)$`).FindSubmatch(module)
	if match == nil {
		return ""
	}
	return string(match[1])
}

// complete says which program is missing, and what to do about it.
func complete(dir string) error {
	for _, name := range programs() {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s is not in %s: unset %s and run `go run ./hack/lab build`", name, dir, assets)
		}
	}
	return nil
}

// cached returns the folder of the cache with the programs, filled.
func cached(ctx context.Context, root string, wanted release, say Say) (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to cache programs in: %w", err)
	}
	parent := filepath.Join(user, "connpool", "controlplane")
	dir := filepath.Join(parent, wanted.String())
	if complete(dir) == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, dir+".lock", say)
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(dir) == nil { // another process was faster
		return dir, nil
	}
	return dir, fill(ctx, root, dir, wanted, say)
}

// fill gets the programs into a folder of its own and renames it at the end, so
// that there is never half a set under the final name.
func fill(ctx context.Context, root, dir string, wanted release, say Say) error {
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // gone already when all went well
	start := time.Now()
	verb := "downloaded"
	if err := download(ctx, fresh, wanted, say); err != nil {
		say("no released programs to be had (%v)", err)
		verb = "built"
		if err := build(ctx, root, fresh, wanted, say); err != nil {
			return err
		}
	}
	if err := complete(fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil { // an incomplete set
		return err
	}
	say("%s in %s", verb, time.Since(start).Round(time.Second))
	return os.Rename(fresh, dir)
}
