// Package process runs the programs of a control plane and of the lab as children
// that end with their owner.
//
//	etcd, err := process.Start(process.Command{Name: "etcd", Path: path, Args: args, Dir: dir})
//	defer etcd.Stop(time.Second)
//
// Each child leads a process group of its own. So Ctrl-C in a terminal reaches the
// owner only, which then ends its children in the right order, each with the
// processes that it started. On Linux the kernel kills a child when its owner dies,
// whatever the cause. On other systems a child outlives an owner that is killed, and
// its pid file says which process it is. A child's output goes to a file, for the
// message when it fails.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command says what to run.
type Command struct {
	// Name of the process in messages, and of its files.
	Name string
	// Path of the program.
	Path string
	Args []string
	// Env has NAME=value for variables beside those of this process.
	Env []string
	// Dir gets NAME.log and, while the process lives, NAME.pid.
	Dir string
}

// Process is a running child.
type Process struct {
	command Command
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Start starts a child. It runs until Stop, or until it ends by itself.
func Start(command Command) (*Process, error) {
	log, err := os.Create(command.file("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own descriptor
	p := &Process{command: command, exited: make(chan struct{})}
	p.cmd = exec.Command(command.Path, command.Args...)
	p.cmd.Env = append(os.Environ(), command.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = attributes()
	if err := p.launch(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	if err := p.writePid(); err != nil {
		p.Stop(0)
		return nil, err
	}
	return p, nil
}

// launch starts the child and waits for its end on one thread: when the thread that
// started a child ends, the kernel takes it for the end of the parent.
func (p *Process) launch() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(p.exited)
		_ = p.cmd.Wait()
		// Kill the child's own children now: later the number may be another group's.
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	}()
	return <-started
}

func (p *Process) writePid() error {
	return os.WriteFile(p.command.file("pid"), []byte(strconv.Itoa(p.Pid())+"\n"), 0o600)
}

func (c Command) file(extension string) string {
	return filepath.Join(c.Dir, c.Name+"."+extension)
}

// Name returns the name from the Command.
func (p *Process) Name() string { return p.command.Name }

// Pid returns the number of the process, which is also the number of its group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited returns a channel that is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err returns an error with the end of the log when the process has ended; nil while
// it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended (%s); the end of %s:\n%s",
			p.command.Name, p.cmd.ProcessState, p.command.file("log"), p.LastLines(5))
	default:
		return nil
	}
}

// LastLines returns the last n lines of the process's output.
func (p *Process) LastLines(n int) string { return Tail(p.command.file("log"), n) }

// Tail returns the last lines of a file, or why it cannot be read.
func Tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Stop asks the process to end, kills it when it has not ended within the grace
// period, and returns when it is gone.
func (p *Process) Stop(grace time.Duration) {
	if grace > 0 {
		p.terminate(grace)
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	_ = os.Remove(p.command.file("pid"))
}

func (p *Process) terminate(grace time.Duration) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
}

// Tie makes a command lead a group of its own, which is killed as a whole when the
// command's context ends: `go build` starts many compilers. The caller calls Tie
// before it starts the command.
func Tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// ReadPid reads a pid file. It returns 0 when there is no such file.
func ReadPid(file string) (int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("%s is no pid file: %w", file, err)
	}
	return pid, nil
}
