// Package node adds a real node to a control plane of test/controlplane: a
// containerd and a kubelet of its own, and the controllers and the scheduler that
// make pods run on it.
//
//	n, err := node.Start(ctx, &plane.Access, node.Options{})
//	defer n.Stop()
//	err = n.Import(ctx, archive) // an image, for pods with imagePullPolicy Never
//
// It needs root, and Debian's containerd, runc and containernetworking-plugins;
// hack/install-test-deps.sh installs them. Everything is in one
// directory, one control group and on one bridge link, which Stop removes with
// what ran there. Several nodes, each with its own control plane, may run on one
// machine. A node is Ready some 10 seconds after its start and needs 300 MiB.
//
// A pod is reached from this machine by its own address, and so is the kubelet. With
// Options.Services, and a control plane with ServiceAccounts, pods have tokens and reach
// each other's Services and kube-apiserver by address. There is no DNS: pods use the
// variables of Services or host aliases. Nothing enforces network policies: it would need
// nftables' queue, which not every kernel has. Pods reach no address outside of this machine. If the owner of a node was killed, the next node or Clean removes what is
// left of it.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/leftovers"
	"github.com/connpool/connpool/test/netfault"
)

const (
	// Name is what a node is called that is given no other name.
	Name = "node-1"
	// readyTimeout bounds how long the node may take to be Ready.
	readyTimeout = time.Minute
	// temporaryPrefix begins the names of temporary directories.
	temporaryPrefix = "connpool-node-"
)

// Options change what Start does. The zero value is a working node.
type Options struct {
	// Dir holds everything. It should be short, for sockets are in it. A temporary
	// directory, removed by Stop, when empty.
	Dir string
	// Name of the node; the constant when empty.
	Name string
	// Services makes Services work, kube-apiserver's own too, in pods and on this
	// machine. Only one cluster of a machine can have them.
	Services bool
	// Worker starts no controllers, no scheduler and no kube-proxy: the cluster has them
	// on another node, which outlives this one.
	Worker bool
	// Say is called with what takes long; it may be nil.
	Say binaries.Say
}

// Node is a running node.
type Node struct {
	// Dir holds its files; kubelet.log and containerd.log are logs.
	Dir string
	// Name is what the cluster calls it.
	Name string
	// Address is where its kubelet listens.
	Address string

	access    *controlplane.Access
	programs  string
	temporary bool
	services  bool
	worker    bool
	lock      *os.File
	link      link
	gateway   *netfault.Proxy

	processes []*process.Process
	failed    chan struct{}
}

// Start adds a node and returns when pods can run on it. ctx bounds the start only:
// the node runs until Stop.
func Start(ctx context.Context, access *controlplane.Access, options Options) (*Node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a node runs containers, for which it needs root: try again with sudo")
	}
	if options.Say == nil {
		options.Say = func(string, ...any) {}
	}
	programs, err := binaries.EnsureNode(ctx, options.Say)
	if err != nil {
		return nil, fmt.Errorf("get the programs of a node: %w", err)
	}
	leftovers.Sweep(temporaryPrefix, Clean)
	n := &Node{
		Dir: options.Dir, Name: cmp.Or(options.Name, Name), access: access, programs: programs,
		services: options.Services, worker: options.Worker, failed: make(chan struct{}, 1),
	}
	if err := n.start(ctx); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the node is not ready after %s", readyTimeout))
	defer cancel()
	for _, step := range []func(context.Context) error{
		n.claimDir, n.addLink, n.configure, n.startRuntime, n.importPause, n.startServices, n.startKubernetes, n.awaitReady,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) claimDir(context.Context) (err error) {
	if n.Dir == "" {
		n.temporary = true
		if n.Dir, err = os.MkdirTemp("", temporaryPrefix); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
	}
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if n.lock, err = leftovers.Claim(n.Dir); err != nil {
		return err
	}
	Clean(n.Dir)
	return leftovers.MakeControlGroups(n.controlGroup())
}

// startRuntime starts containerd and returns when it answers.
func (n *Node) startRuntime(ctx context.Context) error {
	path, err := find("containerd")
	if err != nil {
		return err
	}
	if err := n.launch("containerd", path, "--config", n.path("containerd.toml")); err != nil {
		return err
	}
	return n.await(ctx, "containerd answers", func() error {
		_, err := n.ctr(ctx, nil, "version")
		return err
	})
}

func (n *Node) startKubernetes(context.Context) error {
	programs := map[string][]string{"kubelet": n.kubeletFlags()}
	if !n.worker {
		programs["kube-controller-manager"] = n.controllerFlags()
		programs["kube-scheduler"] = n.schedulerFlags()
	}
	for name, args := range programs {
		if err := n.launch(name, filepath.Join(n.programs, name), args...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) launch(name, path string, args ...string) error {
	started, err := process.Start(process.Command{Name: name, Path: path, Args: args, Dir: n.Dir})
	if err != nil {
		return err
	}
	n.processes = append(n.processes, started)
	go func() {
		<-started.Exited()
		select {
		case n.failed <- struct{}{}:
		default: // another process ended first
		}
	}()
	return nil
}

// Failed receives when one of the processes has ended, by itself or by Stop; Err
// then says more.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err says which of the processes has ended by itself, with the end of its log.
func (n *Node) Err() error {
	var ended []error
	for _, p := range n.processes {
		ended = append(ended, p.Err())
	}
	return errors.Join(ended...)
}

// Stop ends the node and all that runs on it, and returns when it is gone. The
// API server keeps its objects.
func (n *Node) Stop() {
	for _, p := range n.processes {
		p.Stop(0)
	}
	if n.gateway != nil {
		n.gateway.Close()
	}
	if n.lock == nil {
		return
	}
	Clean(n.Dir)
	if n.temporary {
		_ = os.RemoveAll(n.Dir)
	}
	_ = n.lock.Close()
	n.lock = nil
}

// Clean removes what a node in the directory has left that has ended: its
// containers, mounts, control groups, link and files.
func Clean(dir string) {
	leftovers.KillShims(socketIn(dir))
	removeTraces(dir)
	leftovers.Unmount(dir)
	leftovers.RemoveControlGroups(controlGroupOf(dir))
	removeRules(dir)
	removeLink(dir)
	removeLogLinks(dir)
	for _, name := range []string{"containerd", "state", "runc", "kubelet", "logs", "networks"} {
		_ = os.RemoveAll(filepath.Join(dir, name))
	}
}

// removeTraces removes what containers have elsewhere: the sockets of their
// supervisors and what the network's plugins remember of them.
func removeTraces(dir string) {
	tasks, _ := filepath.Glob(filepath.Join(dir, "state", "io.containerd.runtime.v2.task", "k8s.io", "*"))
	for _, task := range tasks {
		traces, _ := filepath.Glob("/var/lib/cni/results/*-" + filepath.Base(task) + "-*")
		if address, err := os.ReadFile(filepath.Join(task, "address")); err == nil {
			traces = append(traces, strings.TrimPrefix(string(address), "unix://"))
		}
		for _, trace := range traces {
			_ = os.Remove(trace)
		}
	}
}

// removeLogLinks removes the links that a kubelet makes for collectors of logs.
func removeLogLinks(dir string) {
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			_ = os.Remove(link)
		}
	}
}

func (n *Node) path(name string) string { return filepath.Join(n.Dir, name) }

// Socket is that of its containerd.
func (n *Node) Socket() string { return socketIn(n.Dir) }

func socketIn(dir string) string { return filepath.Join(dir, "containerd.sock") }

func (n *Node) controlGroup() string { return controlGroupOf(n.Dir) }

func controlGroupOf(dir string) string {
	return "connpool" + strings.NewReplacer("/", "-", ".", "-", "_", "-").Replace(dir)
}
