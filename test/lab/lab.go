// Package lab runs the operator on one machine, to try it: without a cluster,
// without root and without the network. A lab is a Kubernetes control plane, an SSH
// server on a loopback address, and samples for both.
//
//	os.Exit(lab.Main(os.Args[1:], os.Stdout, os.Stderr))
//
// is the command `go run ./hack/lab`. A lab lives in a folder, .lab of the
// checkout unless told otherwise, and in one process: the one that runs in the
// foreground (run) or that was put into the background (up). Everything else is
// its child and does not outlive it. The process holds a lock on lab.pid, so
// that there is one lab for each folder and a pid file that was left behind is
// not mistaken for a lab. Nothing is kept from one lab to the next: it starts in
// seconds, with new keys.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

// loopback is where everything listens.
const loopback = "127.0.0.1"

// Options say where a lab is and where it listens. A port of 0 is any free one.
type Options struct {
	// Dir holds all files of the lab. Absolute.
	Dir string
	// APIPort is the port of kube-apiserver.
	APIPort int
	// SSHPort is the port of the SSH server.
	SSHPort int
	// EmbeddedSSH leaves an sshd of this machine alone.
	EmbeddedSSH bool
}

// Lab is a running lab.
type Lab struct {
	folder  folder
	say     binaries.Say
	lock    *lock
	access  *controlplane.Access
	control *controlplane.ControlPlane // nil when another process has it
	exited  <-chan struct{}
	disobey func()

	mu  sync.Mutex // guards ssh, which signals and the end of the lab change
	ssh sshServer
}

// Start starts a lab in this process and returns when it is ready. It prints what
// it does when that takes long.
func Start(ctx context.Context, options Options, say binaries.Say) (*Lab, error) {
	where := folder(options.Dir)
	held, err := where.acquire()
	if err != nil {
		return nil, err
	}
	l := &Lab{folder: where, say: say, lock: held}
	l.disobey = l.obey(ctx) // before the pid file names this process
	if err := l.start(ctx, options); err != nil {
		l.Stop()
		return nil, err
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context, options Options) error {
	last := l.folder.pid()
	if err := errors.Join(l.lock.claim(), l.folder.clean(last, l.say)); err != nil {
		return err
	}
	if err := errors.Join(free("--api-port", options.APIPort), free("--ssh-port", options.SSHPort)); err != nil {
		return err
	}
	if err := l.startControlPlane(ctx, options.APIPort); err != nil {
		return err
	}
	return l.startSSH(ctx, options)
}

// free says which flag helps where a port is taken.
func free(flag string, port int) error {
	if port == 0 {
		return nil
	}
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: %w; choose another port with %s", address, err, flag)
	}
	return fmt.Errorf("%s is taken by another program: stop that, or choose another port with %s (0 for any that is free)", address, flag)
}

func (l *Lab) startControlPlane(ctx context.Context, port int) error {
	start := time.Now()
	l.say("starting etcd and kube-apiserver")
	control, err := controlplane.Start(ctx, controlplane.Options{Dir: l.folder.path("controlplane"), Port: port, Say: l.say})
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	l.control, l.access, l.exited = control, &control.Access, control.Failed()
	if err := l.installAPI(ctx); err != nil {
		return err
	}
	kubeconfig, err := control.Kubeconfig()
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.folder.kubeconfig(), kubeconfig, 0o600); err != nil {
		return err
	}
	l.say("kube-apiserver with the CRDs is ready at %s after %s", control.Config.Host, seconds(time.Since(start)))
	return nil
}

func (l *Lab) installAPI(ctx context.Context) error {
	root, err := binaries.Checkout()
	if err != nil {
		return err
	}
	return errors.Join(
		l.access.InstallCRDs(ctx, filepath.Join(root, "config", "crd", "bases")),
		l.access.InstallPolicies(ctx, filepath.Join(root, "config", "admission")),
	)
}

func (l *Lab) startSSH(ctx context.Context, options Options) error {
	dir := l.folder.path("ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	server, err := newSSHServer(ctx, dir, options)
	if err != nil {
		return fmt.Errorf("start the SSH server: %w", err)
	}
	l.ssh = server
	access := server.access()
	kubeconfig, err := makeAccount(ctx, l.access)
	if err != nil {
		return fmt.Errorf("make an account for the samples: %w", err)
	}
	if err := writeSamples(l.folder.samples(), access, kubeconfig); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	if err := os.WriteFile(l.folder.sshAddress(), []byte(access.Addr), 0o600); err != nil {
		return err
	}
	l.say("%s accepts %s at %s", access.Kind, access.User, access.Addr)
	return nil
}

// join uses a lab that runs in the background, without its SSH server.
func join(where folder, pid int, say binaries.Say) (*Lab, error) {
	access, err := controlplane.Find(where.path("controlplane"))
	if err != nil {
		return nil, err
	}
	ended, forget := where.watch(pid)
	return &Lab{folder: where, say: say, access: access, exited: ended, disobey: forget}, nil
}

// Exited is closed when the control plane has ended by itself; Err says why.
func (l *Lab) Exited() <-chan struct{} { return l.exited }

// Err is nil while all is well.
func (l *Lab) Err() error {
	if l.control == nil {
		return errors.New("the lab has ended")
	}
	return l.control.Err()
}

// Stop ends everything that the lab has started and returns when it is gone. A lab
// that was joined has started nothing.
func (l *Lab) Stop() {
	l.disobey()
	l.mu.Lock()
	if l.ssh != nil {
		l.ssh.stop()
		l.ssh = nil
	}
	l.mu.Unlock()
	if l.control != nil {
		l.control.Stop()
	}
	if l.lock != nil {
		l.lock.release()
	}
}

// StopSSH stops the SSH server, as if its host went down.
func (l *Lab) StopSSH() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ssh != nil {
		l.ssh.goAway()
	}
}

// StartSSH starts the SSH server again, with the same keys at the same address.
func (l *Lab) StartSSH(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ssh == nil {
		return nil
	}
	return l.ssh.comeBack(ctx)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// folder is where a lab's files are.
type folder string

func (f folder) sshAddress() string      { return f.path("ssh/address") }
func (f folder) path(name string) string { return filepath.Join(string(f), name) }
func (f folder) kubeconfig() string      { return f.path("kubeconfig") }
func (f folder) samples() string         { return f.path("samples") }
func (f folder) pidFile() string         { return f.path("lab.pid") }
func (f folder) log() string             { return f.path("lab.log") }
