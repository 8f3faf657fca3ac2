// Package binaries gets the programs of a cluster: those of a control plane
// (kube-apiserver, etcd, kubectl), of a node, and helm.
//
//	dir, err := binaries.Ensure(ctx, binaries.Printer(os.Stderr))
//	dir, err = binaries.EnsureNode(ctx, binaries.Printer(os.Stderr))
//
// They come, in this order, from KUBEBUILDER_ASSETS, from bin/k8s of the checkout,
// from a cache that all checkouts of the user share, from the released set that
// setup-envtest downloads, and from source. The first and the fourth have only the
// control plane. hack/controlplane and hack/helm are modules that build from source
// with no more than a Go module proxy. Building takes minutes, once: the first of
// several callers builds, and the others wait for it.
//
// CONNPOOL_TEST_KUBERNETES=1.36 takes the control plane, and nothing else, from
// hack/controlplane-1.36 and bin/k8s-1.36 instead, so that tests can be run against
// another minor version of Kubernetes.
package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// assets is the variable that tells kubebuilder's tools where programs are.
const assets = "KUBEBUILDER_ASSETS"

// otherMinor is the variable that chooses another minor version of Kubernetes.
const otherMinor = "CONNPOOL_TEST_KUBERNETES"

// Say tells the user about a step that takes long.
type Say func(format string, args ...any)

// Printer returns a Say that prints a line for each call.
func Printer(out io.Writer) Say {
	return func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
}

// Ensure returns the folder that has kube-apiserver, etcd and kubectl, getting or
// building them first where they are missing.
func Ensure(ctx context.Context, say Say) (dir string, err error) {
	if dir := os.Getenv(assets); dir != "" {
		return dir, controlPlane.complete(dir)
	}
	return controlPlane.ofMinor(os.Getenv(otherMinor)).ensure(ctx, say)
}

// Kubernetes returns the version of Kubernetes that Ensure wants, such as v1.37.2. Programs
// that were downloaded may have another patch level.
func Kubernetes() (string, error) {
	root, err := Checkout()
	if err != nil {
		return "", err
	}
	wanted, err := controlPlane.ofMinor(os.Getenv(otherMinor)).wantedRelease(root)
	return wanted.version(kubernetes), err
}

// EnsureNode does the same for kubelet, kube-controller-manager,
// kube-scheduler and kube-proxy.
func EnsureNode(ctx context.Context, say Say) (dir string, err error) { return node.ensure(ctx, say) }

// EnsureHelm does the same for helm.
func EnsureHelm(ctx context.Context, say Say) (dir string, err error) { return helm.ensure(ctx, say) }

func (s set) ensure(ctx context.Context, say Say) (dir string, err error) {
	root, err := Checkout()
	if err != nil {
		return "", err
	}
	wanted, err := s.wantedRelease(root)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", s.bin)
	if s.isStamped(bin, wanted) {
		return bin, nil
	}
	cache, err := s.cached(ctx, root, wanted, say)
	if err != nil {
		return "", err
	}
	return bin, s.publish(cache, bin, wanted)
}

// Checkout returns the root of the checkout that the working directory is in.
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

// cached returns the folder of the cache that has the programs. It fills the folder if
// they are not there.
func (s set) cached(ctx context.Context, root string, wanted release, say Say) (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to cache programs in: %w", err)
	}
	parent := filepath.Join(user, "connpool", s.name)
	dir := filepath.Join(parent, wanted.String())
	if s.complete(dir) == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	unlock, err := s.lock(ctx, dir+".lock", say)
	if err != nil {
		return "", err
	}
	defer unlock()
	if s.complete(dir) == nil { // another process was faster
		return dir, nil
	}
	return dir, s.fill(ctx, root, dir, wanted, say)
}

// fill gets the programs into a new folder and renames that at the end, so that the
// final name never has half a set.
func (s set) fill(ctx context.Context, root, dir string, wanted release, say Say) error {
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // it was renamed when all went well
	start := time.Now()
	verb, err := s.get(ctx, root, fresh, wanted, say)
	if err != nil {
		return err
	}
	if err := s.complete(fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil { // an incomplete set
		return err
	}
	say("%s in %s", verb, time.Since(start).Round(time.Second))
	return os.Rename(fresh, dir)
}

// get fills the folder. It returns how: "downloaded" or "built".
func (s set) get(ctx context.Context, root, dir string, wanted release, say Say) (verb string, err error) {
	if s.isReleased {
		err := s.download(ctx, dir, wanted, say)
		if err == nil {
			return "downloaded", nil
		}
		say("no released programs to be had (%v)", err)
	}
	return "built", s.build(ctx, root, dir, wanted, say)
}
