package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// stopLimit bounds how long a lab may take to end.
const stopLimit = 30 * time.Second

// isUp is the last line that a process in the background sends to its starter.
const isUp = "up"

// progress is the file descriptor for these lines.
const progress = 3

// up starts a lab in the background and returns when it is ready.
func up(ctx context.Context, options Options, out io.Writer) error {
	where := folder(options.Dir)
	if pid, isRunning := where.running(); isRunning {
		return runningError{pid}
	}
	if err := where.background(ctx, out, "serve", "--dir="+options.Dir,
		"--api-port="+strconv.Itoa(options.APIPort), "--ssh-port="+strconv.Itoa(options.SSHPort),
		"--embedded-ssh="+strconv.FormatBool(options.EmbeddedSSH)); err != nil {
		return err
	}
	fmt.Fprintf(out, "The lab is up. Next:\n%s  kubectl apply --server-side -f %s\n", environment(where), short(where.samples()))
	return nil
}

// background starts this program again in a process group of its own, and returns
// when that reports that it is up.
func (f folder) background(ctx context.Context, out io.Writer, args ...string) error {
	cmd, lines, err := f.serveCommand(args)
	if err != nil {
		return err
	}
	defer lines.Close()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if relay(lines, out) == isUp {
		return nil
	}
	_ = cmd.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("it did not start; the end of %s:\n%s", short(f.log()), process.Tail(f.log(), 15))
}

func (f folder) serveCommand(args []string) (*exec.Cmd, io.ReadCloser, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, nil, err
	}
	log, err := os.Create(f.log())
	if err != nil {
		return nil, nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	lines, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer writer.Close() //nolint:errcheck // the child has its own
	executable, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(executable, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{writer} // progress
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, lines, cmd.Start()
}

// relay copies lines until the lab is up or has ended, and returns the last one.
func relay(lines io.Reader, out io.Writer) (last string) {
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		if last = scanner.Text(); last == isUp {
			break
		}
		fmt.Fprintln(out, last)
	}
	return last
}

// served is what runs in the background.
type served interface {
	// Exited is closed when it has ended by itself; Err then says why.
	Exited() <-chan struct{}
	Err() error
	// Stop ends it and returns when it is gone.
	Stop()
}

// serve starts a lab or a node in this background process, reports that to the
// starter, and returns when ctx or the process's work ends.
func serve(ctx context.Context, start func(say binaries.Say) (served, error)) error {
	syscall.CloseOnExec(progress) // not for its children
	starter := os.NewFile(progress, "progress")
	if starter == nil {
		return errors.New("this is for commands that start something in the background only")
	}
	running, err := start(elapsed(io.MultiWriter(os.Stdout, starter)))
	if err != nil {
		return errors.Join(err, starter.Close())
	}
	defer running.Stop()
	fmt.Fprintln(starter, isUp)
	if err := starter.Close(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-running.Exited():
		return running.Err()
	}
}

// down stops the folder's lab, from any process, and returns when it is gone.
func down(options Options, out io.Writer) error {
	say := elapsed(out)
	where := folder(options.Dir)
	held, err := where.acquire()
	if err == nil {
		defer held.release()
		say("no lab is running")
		return where.clean(where.pid(), say)
	}
	running, ok := errors.AsType[runningError](err)
	if !ok {
		return err
	}
	say("stopping the lab (process %d)", running.pid)
	if held, err = where.end(running.pid, say); err != nil {
		return err
	}
	defer held.release()
	if err := where.node().awaitEnd(); err != nil {
		return err
	}
	if err := where.clean(where.pid(), say); err != nil {
		return err
	}
	say("stopped")
	return nil
}

// end asks the folder's process to end, and kills it if it does not.
func (f folder) end(pid int, say binaries.Say) (*lock, error) {
	if err := signalLab(pid, syscall.SIGTERM); err != nil {
		return nil, err
	}
	held, err := f.await(stopLimit)
	if err == nil {
		return held, nil
	}
	say("it has not ended within %s: killing it", stopLimit)
	_ = signalLab(pid, syscall.SIGKILL)
	return f.await(stopLimit)
}

func signalLab(pid int, what syscall.Signal) error {
	if pid == 0 {
		return errors.New("the lab is about to start or to end: try again")
	}
	if err := syscall.Kill(pid, what); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// await waits until the folder's lab is gone.
func (f folder) await(limit time.Duration) (*lock, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		held, err := f.acquire()
		if err == nil {
			return held, nil
		}
		select {
		case <-timer.C:
			return nil, err
		case <-ticker.C:
		}
	}
}

// running reports whether the folder has a lab, and which process it is. The lab may be
// another user's: a node is root's.
func (f folder) running() (pid int, isRunning bool) {
	file, err := os.Open(f.pidFile())
	if err != nil {
		return 0, false
	}
	defer file.Close() //nolint:errcheck // it was only read
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return f.pid(), true
	}
	return 0, false
}

// status says what is running.
func status(ctx context.Context, options Options, out io.Writer) error {
	where := folder(options.Dir)
	pid, isRunning := where.running()
	if !isRunning {
		if pid = where.pid(); pid != 0 {
			fmt.Fprintf(out, "no lab is running; process %d was one and was killed: `make lab-down` cleans up after it\n", pid)
			return nil
		}
		fmt.Fprintln(out, "no lab is running: `make lab-up` starts one, `make run` one with the operator")
		return nil
	}
	fmt.Fprintf(out, "lab: running (process %d)\n", pid)
	fmt.Fprintf(out, "kube-apiserver: %s\n", where.health(ctx))
	fmt.Fprintf(out, "SSH server: %s\n", where.sshHealth(ctx))
	fmt.Fprintf(out, "node and Docker engine: %s\n", where.nodeHealth())
	for _, name := range []string{"controlplane/etcd", "controlplane/kube-apiserver", "manager"} {
		if pid, err := process.ReadPid(where.path(name + ".pid")); err == nil && pid != 0 {
			fmt.Fprintf(out, "%s: process %d, log %s\n", name, pid, short(where.path(name+".log")))
		}
	}
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", where.kubeconfig())
	return nil
}

// health asks the API server how it is.
func (f folder) health(ctx context.Context) string {
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig())
	if err != nil {
		return "starting"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := ready(ctx, config); err != nil {
		return fmt.Sprintf("not ready at %s: %v", config.Host, err)
	}
	return "ready at " + config.Host
}

// sshHealth reports whether the SSH server answers.
func (f folder) sshHealth(ctx context.Context) string {
	address, err := os.ReadFile(f.sshAddress())
	if err != nil {
		return "starting"
	}
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", string(address))
	if err != nil {
		return fmt.Sprintf("away from %s: `go run ./hack/lab ssh-start` brings it back", address)
	}
	defer connection.Close()
	return "ready at " + string(address)
}

func ready(ctx context.Context, config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	_, err = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}
