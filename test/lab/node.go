package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/image"
	"github.com/connpool/connpool/test/node"
)

// node is the folder of the lab's node. It has a process, a lock and samples of
// its own, because it needs root and the lab does not.
func (f folder) node() folder { return folder(f.path("node")) }

// errNeedsRoot says what containers need.
var errNeedsRoot = errors.New("a node and a Docker engine run containers, for which they need root: install sudo or become root; `make run` needs neither")

// nodeUp adds a node and a Docker engine to the lab, which it starts first where
// there is none.
func nodeUp(ctx context.Context, options Options, out io.Writer) error {
	where := folder(options.Dir)
	if pid, isRunning := where.node().running(); isRunning {
		return fmt.Errorf("the node is already running (process %d): `make lab-node-down` stops it", pid)
	}
	sudo, err := exec.LookPath("sudo")
	if os.Geteuid() != 0 && err != nil {
		return errNeedsRoot
	}
	if _, err := binaries.EnsureNode(ctx, elapsed(out)); err != nil {
		return err
	}
	if _, isRunning := where.running(); !isRunning {
		if err := up(ctx, options, out); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return asRoot(ctx, sudo, out, "node-up", "--dir="+options.Dir)
	}
	if err := where.node().background(ctx, out, "serve-node", "--dir="+options.Dir); err != nil {
		return err
	}
	fmt.Fprint(out, nodeHints(where))
	return nil
}

// asRoot runs this program again, as another user but with the same PATH.
func asRoot(ctx context.Context, sudo string, out io.Writer, args ...string) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	words := append([]string{"env", "PATH=" + os.Getenv("PATH"), executable}, args...)
	cmd := exec.CommandContext(ctx, sudo, words...) //nolint:gosec // who asks may run anything anyway
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}

// nodeDown removes the node and the engine, wherever they were started, and
// returns when they are gone.
func nodeDown(where folder, out io.Writer) error {
	say := elapsed(out)
	pid, isRunning := where.node().running()
	if !isRunning {
		say("no node is running")
		return nil
	}
	sudo, err := exec.LookPath("sudo")
	if os.Geteuid() != 0 && err == nil {
		return asRoot(context.Background(), sudo, out, "node-down", "--dir="+string(where))
	}
	say("stopping the node (process %d)", pid)
	held, err := where.node().end(pid, say)
	if err != nil {
		return err
	}
	defer held.release()
	say("stopped")
	return nil
}

// awaitEnd returns when the node has ended, which it does with its lab.
func (f folder) awaitEnd() error {
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		pid, isRunning := f.running()
		if !isRunning {
			return nil
		}
		select {
		case <-timer.C:
			return fmt.Errorf("the node (process %d) has not ended with its lab within %s: `make lab-node-down` ends it", pid, stopLimit)
		case <-ticker.C:
		}
	}
}

func (f folder) nodeHealth() string {
	pid, isRunning := f.node().running()
	if !isRunning {
		return "none; `make lab-node-up` adds them"
	}
	return fmt.Sprintf("running (process %d), log %s", pid, short(f.node().log()))
}

// labNode is a node and a Docker engine beside a lab.
type labNode struct {
	lab    folder
	lock   *lock
	node   *node.Node
	engine *dockerd.Engine
	exited chan struct{}
	forget func()
}

// startNode starts both, and what the samples need of them.
func startNode(ctx context.Context, where folder, say binaries.Say) (*labNode, error) {
	held, err := where.node().acquire()
	if err != nil {
		return nil, err
	}
	n := &labNode{lab: where, lock: held, forget: func() {}}
	if err := n.start(ctx, say); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *labNode) start(ctx context.Context, say binaries.Say) error {
	pid, isRunning := n.lab.running()
	if !isRunning {
		return errors.New("no lab is running: `make lab-up` or `make run` starts one")
	}
	access, err := controlplane.Find(n.lab.path("controlplane"))
	if err != nil {
		return err
	}
	if err := n.lock.claim(); err != nil {
		return err
	}
	if err := n.startEngine(ctx, say); err != nil {
		return fmt.Errorf("start a Docker engine: %w", err)
	}
	if err := n.startKubelet(ctx, access, say); err != nil {
		return fmt.Errorf("start a node: %w", err)
	}
	if err := n.apply(ctx, access); err != nil {
		return err
	}
	say("applied the samples in %s", short(n.lab.node().samples()))
	n.watch(pid)
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return n.node.AwaitPod(waiting, appsNamespace, "web")
}

// startEngine starts an engine with a container in it.
func (n *labNode) startEngine(ctx context.Context, say binaries.Say) (err error) {
	start := time.Now()
	say("starting a Docker engine")
	if n.engine, err = dockerd.New(ctx, dockerd.Options{Dir: n.lab.node().path("docker")}); err != nil {
		return err
	}
	if _, err := n.engine.Container(ctx, "--name=web"); err != nil {
		return err
	}
	say("the container web runs after %s; the engine listens on %s", seconds(time.Since(start)), n.engine.Socket)
	return n.admit(n.engine.Socket)
}

// admit lets the lab's owner, as whom the operator runs, use the socket.
func (n *labNode) admit(socket string) error {
	lab, err := os.Stat(string(n.lab))
	if err != nil {
		return err
	}
	owner, ok := lab.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	var failed []error
	for _, path := range []string{string(n.lab.node()), filepath.Dir(socket), socket} {
		failed = append(failed, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}
	return errors.Join(failed...)
}

// startKubelet starts the node, with an image for its pods.
func (n *labNode) startKubelet(ctx context.Context, access *controlplane.Access, say binaries.Say) (err error) {
	start := time.Now()
	say("starting containerd and a kubelet")
	if n.node, err = node.Start(ctx, access, node.Options{Dir: n.lab.node().path("kube"), Say: say}); err != nil {
		return err
	}
	archive, err := image.Busybox(dockerd.Image)
	if err != nil {
		return err
	}
	if err := n.node.Import(ctx, archive); err != nil {
		return err
	}
	say("%s is ready after %s", node.Name, seconds(time.Since(start)))
	return nil
}

func (n *labNode) apply(ctx context.Context, access *controlplane.Access) error {
	api, err := client.New(access.Config, client.Options{})
	if err != nil {
		return err
	}
	data := map[string]any{"Socket": n.engine.Socket, "Image": dockerd.Image, "Namespace": appsNamespace}
	if err := writeTemplates(n.lab.node().samples(), "samples/node", data); err != nil {
		return err
	}
	return n.lab.node().applySamples(ctx, api)
}

// watch notes the end of the lab, since the node is of no use without it.
func (n *labNode) watch(pid int) {
	ended, forget := n.lab.watch(pid)
	n.exited, n.forget = make(chan struct{}), forget
	go func() {
		defer close(n.exited)
		select {
		case <-ended:
		case <-n.node.Failed():
		}
	}()
}

// Exited implements served.
func (n *labNode) Exited() <-chan struct{} { return n.exited }

// Err implements served.
func (n *labNode) Err() error { return n.node.Err() }

// Stop implements served.
func (n *labNode) Stop() {
	n.forget()
	if n.node != nil {
		n.node.Stop()
	}
	if n.engine != nil {
		n.engine.Stop()
	}
	for _, name := range []string{"kube", "docker", "samples"} {
		_ = os.RemoveAll(n.lab.node().path(name))
	}
	n.lock.release()
}

// watch reports the end of the folder's lab, which the process has, until it is told to
// stop. The end is that of the lab, for which the process waits.
func (f folder) watch(pid int) (ended <-chan struct{}, forget func()) {
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for isProcess(pid) && f.pid() == pid {
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}()
	return done, func() { close(stop) }
}

// isProcess reports whether a process of any user exists.
func isProcess(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
