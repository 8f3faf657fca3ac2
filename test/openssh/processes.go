package openssh

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is a child. Several goroutines may wait for its end.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

func watch(cmd *exec.Cmd) *process {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
	}()
	return p
}

// kill returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// StopListener ends the listening process only. Established connections go on, and new
// ones are refused until Restart.
func (s *Server) StopListener() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return
	}
	// Without their parent the connections could not be found anymore.
	signalAll([]int{s.listener.cmd.Process.Pid}, syscall.SIGSTOP)
	s.orphans = s.connections()
	s.listener.kill()
	s.listener = nil
}

// KillConnections kills the process of every established connection, as a crash or an
// administrator would. The listener goes on.
func (s *Server) KillConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	signalAll(hold(s.connections), syscall.SIGKILL)
}

// Connections counts the processes that serve connections. There are one or two
// for each, depending on who logs in.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections())
}

// Freeze stops the listener, the connections and what runs on them (SIGSTOP). The
// kernel still accepts connections and acknowledges data, but no process answers.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	hold(s.processes)
}

// Thaw continues what Freeze has stopped.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	signalAll(s.processes(), syscall.SIGCONT)
}

// processes are the listener, the connections and all that runs on them.
func (s *Server) processes() []int {
	roots := slices.Clone(s.orphans)
	if s.listener != nil {
		roots = append(roots, s.listener.cmd.Process.Pid)
	}
	return descendants(roots)
}

// connections are the sshd processes other than the listener.
func (s *Server) connections() []int {
	return slices.DeleteFunc(s.processes(), func(pid int) bool {
		isListener := s.listener != nil && pid == s.listener.cmd.Process.Pid
		return isListener || !strings.HasPrefix(stat(pid).name, "sshd")
	})
}

// hold stops processes, including those that are started meanwhile, and returns them.
// If they were killed without that, they could leave a child that is not found.
func hold(find func() []int) []int {
	var held []int
	for {
		fresh := slices.DeleteFunc(find(), func(pid int) bool { return slices.Contains(held, pid) })
		if len(fresh) == 0 {
			return held
		}
		signalAll(fresh, syscall.SIGSTOP)
		held = append(held, fresh...)
	}
}

func signalAll(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal) // it may have ended by itself
	}
}

// descendants returns the living among the roots and all their children's
// children, parents first.
func descendants(roots []int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			parent := stat(pid).parent
			children[parent] = append(children[parent], pid)
		}
	}
	var found []int
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		if stat(queue[0]).name != "" {
			found = append(found, queue[0])
		}
		queue = append(queue, children[queue[0]]...)
	}
	return found
}

type procStat struct {
	name   string
	parent int
}

// stat reads "pid (name) state parent ...". It is empty for a process that is
// gone.
func stat(pid int) procStat {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}
	}
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return procStat{}
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 2 {
		return procStat{}
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}
	}
	return procStat{name: string(data[open+1 : end]), parent: parent}
}

// CreateUser creates a user of this machine whose login shell sources almost nothing,
// so that a benchmark measures connections and not start-up files. It needs root. The
// user stays until the returned function removes it. An existing user is used as it is,
// and is not removed.
func CreateUser(name string) (remove func(), err error) {
	return CreateUserWithShell(name, plainShell())
}

// CreateUserWithShell is CreateUser with another login shell, which is a path.
func CreateUserWithShell(name, shell string) (remove func(), err error) {
	if _, err := user.Lookup(name); err == nil {
		return func() {}, nil
	}
	// A password of "*" matches nothing but, unlike "!", does not lock the account.
	out, err := exec.Command("useradd", "--create-home", "--shell", shell, "--password", "*", name).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("create the user %s (this needs root): %w: %s", name, err, bytes.TrimSpace(out))
	}
	return func() { _ = exec.Command("userdel", "--force", "--remove", name).Run() }, nil
}

func plainShell() string {
	if _, err := os.Stat("/bin/dash"); err == nil {
		return "/bin/dash"
	}
	return "/bin/sh"
}
