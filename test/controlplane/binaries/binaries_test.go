package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// install makes a folder with programs of these names that do nothing.
func install(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAssetsOfKubebuilderAreUsed(t *testing.T) {
	dir := install(t, controlPlane.programs()...)
	t.Setenv(assets, dir)
	if got, err := Ensure(t.Context(), t.Logf); err != nil || got != dir {
		t.Errorf("%s, %v, want %s", got, err, dir)
	}
}

func TestIncompleteAssetsOfKubebuilderAreNamed(t *testing.T) {
	t.Setenv(assets, install(t, "etcd"))
	_, err := Ensure(t.Context(), t.Logf)
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver") || !strings.Contains(err.Error(), assets) {
		t.Errorf("%v, want the missing program and the variable", err)
	}
}

func TestTheCheckoutSaysWhatItWants(t *testing.T) {
	root, err := Checkout()
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := controlPlane.wantedRelease(root)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(wanted.version("kubernetes"), "v1.") || !strings.HasPrefix(wanted.version("etcd"), "v3.") {
		t.Errorf("%s, want versions of both", wanted)
	}
	if minor := minor("v1.37.2"); minor != "1.37" {
		t.Errorf("the minor version of v1.37.2 is %s", minor)
	}
}

func TestAnotherMinorVersionHasProgramsOfItsOwn(t *testing.T) {
	root, err := Checkout()
	if err != nil {
		t.Fatal(err)
	}
	if same := controlPlane.ofMinor(""); same.String() != controlPlane.String() || same.bin != "k8s" {
		t.Errorf("without the variable it is %s in %s", same, same.bin)
	}
	other := controlPlane.ofMinor("1.36")
	wanted, err := other.wantedRelease(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := minor(wanted.version(kubernetes)); got != "1.36" {
		t.Errorf("the module of 1.36 builds %s", got)
	}
	if other.bin == controlPlane.bin || other.name == controlPlane.name || other.stampFile() == controlPlane.stampFile() {
		t.Errorf("%s shares a folder or a cache with the other version", other.bin)
	}
}

func TestAMinorVersionThatNoModuleBuildsIsNamed(t *testing.T) {
	t.Setenv(assets, "")
	t.Setenv(otherMinor, "1.1")
	_, err := Ensure(t.Context(), t.Logf)
	if err == nil || !strings.Contains(err.Error(), "hack/controlplane-1.1") || !strings.Contains(err.Error(), otherMinor) {
		t.Errorf("%v, want the missing module and the variable", err)
	}
}

func TestOutsideOfACheckoutEnsureSaysSo(t *testing.T) {
	t.Setenv(assets, "")
	t.Chdir(t.TempDir())
	if _, err := Ensure(t.Context(), t.Logf); err == nil || !strings.Contains(err.Error(), "no checkout") {
		t.Errorf("%v, want that this is no checkout", err)
	}
}

func TestProcessesThatPublishAtOnceDoNotDisturbEachOther(t *testing.T) {
	cache, bin := install(t, controlPlane.programs()...), filepath.Join(t.TempDir(), "bin")
	wanted := release{"kubernetes-v1.2.3", "etcd-v3.4.5"}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := controlPlane.publish(cache, bin, wanted); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if !controlPlane.isStamped(bin, wanted) {
		t.Error("the programs do not count as published")
	}
	if controlPlane.isStamped(bin, release{"kubernetes-v1.2.4", "etcd-v3.4.5"}) {
		t.Error("the programs count as those of another release")
	}
	left, err := filepath.Glob(filepath.Join(bin, ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left behind", left, err)
	}
}

func TestTheSecondBuilderSaysThatItWaits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := node.lock(t.Context(), file, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	locked := make(chan error)
	go func() {
		unlock, err := node.lock(t.Context(), file, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
		if err == nil {
			unlock()
		}
		locked <- err
	}()
	if words := <-said; !strings.Contains(words, "waiting") {
		t.Errorf("it says %q", words)
	}
	unlock()
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

func TestWaitingForABuilderEndsWithItsContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := node.lock(t.Context(), file, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.lock(ctx, file, t.Logf); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestACommandThatHangsIsCutOff(t *testing.T) {
	_, err := run(t.Context(), 20*time.Millisecond, nil, "/bin/sh", "-c", "sleep 60 & wait")
	if err == nil || !strings.Contains(err.Error(), "no end within 20ms") {
		t.Errorf("%v, want the limit", err)
	}
}

func TestACommandThatFailsIsQuoted(t *testing.T) {
	_, err := run(t.Context(), time.Minute, []string{"WHY=no space left"}, "/bin/sh", "-c", "echo first >&2; echo $WHY >&2; exit 1")
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v, want the last line of its stderr", err)
	}
}
