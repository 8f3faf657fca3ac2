package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

// runningError says that the folder has a lab already.
type runningError struct{ pid int }

// Error says what to do about it.
func (e runningError) Error() string {
	return fmt.Sprintf("a lab is already running here (process %d): `make lab-down` stops it, `make status` says more", e.pid)
}

// lock is held by the process of a running lab. The kernel releases it when the
// process dies, however that happens.
type lock struct{ file *os.File }

// acquire makes this process the folder's lab, or returns a runningError.
func (f folder) acquire() (*lock, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.pidFile(), os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // a user's lab waits for root's node
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(runningError{f.pid()}, file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.pidFile(), err), file.Close())
	}
	return &lock{file}, nil
}

// claim writes this process's number into the pid file.
func (l *lock) claim() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// release gives the folder up. An empty pid file stays: removing it would let
// two processes lock two files of the same name.
func (l *lock) release() {
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}

// pid is the number in the pid file, or 0.
func (f folder) pid() int {
	text, err := os.ReadFile(f.pidFile())
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// clean removes what the folder's last lab has left: its files and, if it was
// killed and its number is still there, its processes.
func (f folder) clean(last int, say binaries.Say) error {
	if last != 0 {
		say("the last lab (process %d) was killed and left a stale pid file: cleaning up after it", last)
	}
	for _, pid := range f.leftovers() {
		say("ending process %d, which it has left running", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
	}
	var failed []error
	for _, name := range []string{"controlplane", "ssh", "samples", "kubeconfig", "manager.log", "manager.pid"} {
		failed = append(failed, os.RemoveAll(f.path(name)))
	}
	return errors.Join(failed...)
}

// leftovers are the processes of a lab that was killed: those with a file of the
// folder on their command line. They are found on Linux only.
func (f folder) leftovers() []int {
	var found []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		command, err := os.ReadFile(path)
		if err != nil || !f.started(string(command)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// started reports whether a command line is that of a program that labs start, and
// not, for example, of an editor that has one of the lab's files open.
func (f folder) started(command string) bool {
	program, _, _ := strings.Cut(command, "\x00")
	program, _, _ = strings.Cut(program, ":") // sshd calls itself "sshd: ..."
	isOurs := slices.Contains([]string{"sshd", "etcd", "kube-apiserver", "manager"}, filepath.Base(program))
	return isOurs && strings.Contains(command, string(f)+"/")
}
