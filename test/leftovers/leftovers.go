// Package leftovers removes what container engines leave on a machine when they
// are killed: supervisors with their containers, mounts, control groups.
//
//	leftovers.KillShims(socket) // of the engine's containerd
//	leftovers.Unmount(dir)
//	leftovers.RemoveControlGroups(name)
//
// A test kills the engine that it has started rather than asking it to end: that is
// quicker, and a test that was killed itself cannot ask. So the end of an engine and
// the start of the next one use the same functions. Each does nothing when there is
// nothing left. They read /proc and /sys: this is for Linux.
package leftovers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds how long processes that were killed may take to be gone.
const patience = 2 * time.Second

// KillShims kills the supervisors of the containers of one containerd, known by
// its socket, and all that they supervise.
func KillShims(socket string) {
	for _, pid := range processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(line, []byte("containerd-shim")) && bytes.Contains(line, []byte(socket+"\x00")) {
			killTree(pid)
		}
	}
}

func processes() []int {
	var found []int
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// killTree stops a process before it looks for its children, so that it cannot
// replace them.
func killTree(pid int) {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for _, child := range processes() {
		if parentOf(child) == pid {
			killTree(child)
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// parentOf reads "pid (name) state parent ...", where the name may hold anything.
func parentOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// Unmount unmounts all below a directory, the innermost first.
func Unmount(dir string) {
	for _, mount := range slices.Backward(Mounts(dir)) {
		_ = syscall.Unmount(mount, syscall.MNT_DETACH)
	}
}

// Mounts are those below a directory, the outermost first.
func Mounts(dir string) []string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var below []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			below = append(below, fields[1])
		}
	}
	return below
}

// MakeControlGroups makes a control group in every hierarchy.
func MakeControlGroups(name string) error {
	var failed error
	for _, at := range ControlGroups(name) {
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // as all of them
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// ControlGroups are where a control group is: in one hierarchy, or in that of each
// controller.
func ControlGroups(name string) []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(root, name)}
	}
	hierarchies, _ := filepath.Glob(root + "/*/cgroup.procs")
	var found []string
	for _, hierarchy := range hierarchies {
		found = append(found, filepath.Join(filepath.Dir(hierarchy), name))
	}
	return found
}

// RemoveControlGroups removes a control group with all below it. The processes in
// them, which have been killed, may take a moment to be gone.
func RemoveControlGroups(name string) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for _, root := range ControlGroups(name) {
		for !removeFolders(root) {
			select {
			case <-ticker.C:
			case <-deadline:
				return
			}
		}
	}
}

// removeFolders removes folders alone: the files of a control group are its own.
func removeFolders(root string) (removed bool) {
	var folders []string
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	for _, folder := range slices.Backward(folders) {
		_ = syscall.Rmdir(folder)
	}
	_, err := os.Lstat(root)
	return errors.Is(err, os.ErrNotExist)
}

// Claim locks a directory for as long as the file is open, which is until its
// owner closes it or dies.
func Claim(dir string) (*os.File, error) {
	lock, err := os.OpenFile(lockFile(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use: %w", dir, err), lock.Close())
	}
	return lock, nil
}

func lockFile(dir string) string { return filepath.Join(dir, "lock") }

// Sweep scrubs and removes those temporary directories with the prefix whose
// owners, who had claimed them, are dead.
func Sweep(prefix string, scrub func(dir string)) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		if _, err := os.Stat(lockFile(dir)); err != nil {
			continue // another process is creating it
		}
		lock, err := Claim(dir)
		if err != nil {
			continue // its owner lives
		}
		scrub(dir)
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}
