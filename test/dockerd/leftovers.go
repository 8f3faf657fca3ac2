package dockerd

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

// temporaryPrefix begins the names of temporary directories.
const temporaryPrefix = "connpool-dockerd-"

// claim locks a directory until the file is closed, or the process that claimed it dies.
func claim(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another engine uses %s: %w", dir, err), lock.Close())
	}
	return lock, nil
}

// sweep removes what engines have left whose owner is dead.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*"))
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
			continue // it is just being made
		}
		lock, err := claim(dir)
		if err != nil {
			continue // its owner is alive
		}
		scrub(dir)
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}

// scrub ends the containers of an engine that has ended, and removes their mounts
// and control groups.
func scrub(dir string) {
	killShims(dir)
	unmountBelow(dir)
	removeControlGroups(filepath.Base(cgroupOf(dir)))
}

func (e *Engine) cgroup() string { return cgroupOf(e.Dir) }

// cgroupOf returns the absolute path of the parent of an engine's control groups.
func cgroupOf(dir string) string {
	name := strings.NewReplacer("/", "-", ".", "-", "_", "-").Replace(strings.Trim(dir, "/"))
	return "/connpool-" + name
}

// killShims kills the supervisors of containers, and the processes in the containers.
func killShims(dir string) {
	address := []byte(filepath.Join(dir, "exec") + "/containerd/containerd.sock")
	for _, pid := range processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(line, []byte("containerd-shim")) && bytes.Contains(line, address) {
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

// parentOf returns the parent of a process, or 0 if the process is gone.
func parentOf(pid int) int {
	fields := statusOf(fmt.Sprintf("/proc/%d/stat", pid))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// stands reports whether all threads of a process are stopped or gone.
func stands(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		if fields := statusOf(thread); len(fields) > 0 && !slices.Contains([]string{"T", "t", "Z", "X"}, fields[0]) {
			return false
		}
	}
	return true
}

// statusOf returns the fields of "pid (name) state parent ..." from the state on. The
// name may hold any character.
func statusOf(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}

// unmountBelow unmounts everything below a directory, the innermost first.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	var below []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			below = append(below, fields[1])
		}
	}
	for _, mount := range slices.Backward(below) {
		_ = syscall.Unmount(mount, syscall.MNT_DETACH)
	}
}

// removeControlGroups waits a moment for the end of the processes in them, which have
// been killed.
func removeControlGroups(parent string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent)
	roots = append(roots, "/sys/fs/cgroup/"+parent)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for _, root := range roots {
		for range 100 {
			if err := removeFolders(root); err == nil || errors.Is(err, os.ErrNotExist) {
				break
			}
			<-ticker.C
		}
	}
}

// removeFolders removes only the folders. The kernel owns the files of a control group.
func removeFolders(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	for _, folder := range slices.Backward(folders) {
		err = errors.Join(err, syscall.Rmdir(folder))
	}
	return err
}
