// Package dockerd starts a real Docker engine of its own for tests, benchmarks
// and the development lab, and breaks it on demand.
//
//	engine := dockerd.Start(t) // or dockerd.New(ctx, dockerd.Options{}) and engine.Stop()
//	container, err := engine.Container(ctx, "--volume=/tmp:/tmp")
//	// reach unix://engine.Socket, or tcp://engine.TCP with CA, Cert and Key
//
// It is Debian's docker.io, run as root. Its state, its containerd and its sockets are
// in a temporary directory, and it has no bridge and no firewall rules, so it runs
// beside another engine and needs no init system. Containers outlive an engine that is
// killed, and a restarted engine finds them again, as with live-restore in production.
// Stop ends them. The next engine that starts removes what a killed test left behind.
package dockerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/test/controlplane/process"
)

const (
	// startTimeout bounds how long the engine may take to answer.
	startTimeout = 30 * time.Second
	// stopTimeout bounds how long it may take to remove its containers, and to end.
	stopTimeout = 20 * time.Second
)

// Options change what New does. The zero value is a working engine.
type Options struct {
	// Dir holds everything; a temporary directory that Stop removes when empty. Its path
	// should be short, because it contains sockets.
	Dir string
	// Address to listen on with TLS; 127.0.0.1 and a free port when empty.
	Address string
	// Arguments are further ones for dockerd.
	Arguments []string
}

// Engine is a Docker engine.
type Engine struct {
	// Socket is the path of its unix socket.
	Socket string
	// TCP is the host and port on which it requires a client certificate of Authority.
	TCP string
	// Authority has issued its certificates.
	Authority *Authority
	// CA, Cert and Key are the TLS files of a client; PEM.
	CA, Cert, Key []byte
	// Dir holds its files; dockerd.log is its log.
	Dir string

	arguments []string
	temporary bool
	lock      *os.File

	mu      sync.Mutex
	running *process.Process
	image   string // of Container, once loaded
}

// Start starts an engine for a test, which ends it.
func Start(t testing.TB) *Engine {
	t.Helper()
	engine, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Stop)
	return engine
}

// New starts an engine and returns when it answers. It runs until Stop. The context
// bounds the start only.
func New(ctx context.Context, options Options) (*Engine, error) {
	sweep()
	e := &Engine{Dir: options.Dir, TCP: options.Address, arguments: options.Arguments}
	if err := e.prepare(); err != nil {
		e.removeDir()
		return nil, err
	}
	if err := e.Restart(ctx); err != nil {
		e.Stop()
		return nil, err
	}
	return e, nil
}

func (e *Engine) prepare() (err error) {
	if os.Geteuid() != 0 {
		return errors.New("a Docker engine needs root")
	}
	if e.Dir == "" {
		e.temporary = true
		if e.Dir, err = os.MkdirTemp("", temporaryPrefix); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return err
	}
	if e.lock, err = claim(e.Dir); err != nil {
		return err
	}
	if e.TCP == "" {
		if e.TCP, err = freeAddress(); err != nil {
			return err
		}
	}
	e.Socket = e.path("docker.sock")
	return e.writeKeys()
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

func (e *Engine) path(name string) string { return filepath.Join(e.Dir, name) }

// Restart starts the engine again after Kill or Shutdown, on the same state,
// socket and address. It does nothing while the engine runs.
func (e *Engine) Restart(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		return nil
	}
	program, err := find("dockerd")
	if err != nil {
		return err
	}
	// A killed engine leaves both behind, and a new one would wait for the processes that
	// they name.
	_ = os.Remove(e.path("docker.pid"))
	_ = os.Remove(filepath.Join(e.exec(), "containerd", "containerd.pid"))
	started, err := process.Start(process.Command{Name: "dockerd", Path: program, Args: e.flags(), Dir: e.Dir})
	if err != nil {
		return err
	}
	e.running = started
	return e.await(ctx, started)
}

func find(program string) (string, error) {
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/bin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New(program + " is not installed: install the package docker.io")
}

func (e *Engine) exec() string { return e.path("exec") }

func (e *Engine) flags() []string {
	return append([]string{
		"--data-root=" + e.path("data"), "--exec-root=" + e.exec(), "--pidfile=" + e.path("docker.pid"),
		"--config-file=" + e.path("daemon.json"),
		"--host=unix://" + e.Socket, "--host=tcp://" + e.TCP, "--tlsverify",
		"--tlscacert=" + e.path("ca.crt"), "--tlscert=" + e.path("server.crt"), "--tlskey=" + e.path("server.key"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--live-restore", "--cgroup-parent=" + e.cgroup(),
	}, e.arguments...)
}

// await returns when the engine answers, or an error with the end of its log when it
// has died.
func (e *Engine) await(ctx context.Context, started *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !e.answers(ctx) {
		select {
		case <-started.Exited():
			e.running = nil
			return started.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for dockerd: %w; its log ends:\n%s", ctx.Err(), started.LastLines(5))
		case <-ticker.C:
		}
	}
	return nil
}

func (e *Engine) answers(ctx context.Context) bool {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.Socket)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", http.NoBody)
	if err != nil {
		return false
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// Log returns what the engine has logged since it was started last.
func (e *Engine) Log() string {
	log, err := os.ReadFile(e.path("dockerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// Freeze stops the engine (SIGSTOP) and returns when it has stopped. The kernel still
// accepts connections, but no process answers. Containers go on.
func (e *Engine) Freeze() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == nil {
		return
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for _ = syscall.Kill(e.running.Pid(), syscall.SIGSTOP); !stands(e.running.Pid()); {
		<-ticker.C
	}
}

// Thaw continues what Freeze has stopped.
func (e *Engine) Thaw() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		_ = syscall.Kill(e.running.Pid(), syscall.SIGCONT)
	}
}

// Kill ends the engine as a crash would (SIGKILL), and its connections with it.
// Containers go on.
func (e *Engine) Kill() { e.end(0) }

// Shutdown ends the engine in an orderly way. Containers go on.
func (e *Engine) Shutdown() { e.end(stopTimeout) }

func (e *Engine) end(grace time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		e.running.Stop(grace)
		e.running = nil
	}
}

// Stop ends the engine and its containers, and removes what they leave. Later calls do
// nothing.
func (e *Engine) Stop() {
	e.Thaw()
	e.removeContainers()
	e.Shutdown()
	e.removeDir()
}

// removeContainers asks the engine to remove its containers. scrub ends what remains.
func (e *Engine) removeContainers() {
	e.mu.Lock()
	running := e.running != nil
	e.mu.Unlock()
	if !running {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	list, err := e.Docker(ctx, "ps", "--all", "--quiet")
	if containers := bytes.Fields([]byte(list)); err == nil && len(containers) > 0 {
		arguments := []string{"rm", "--force"}
		for _, container := range containers {
			arguments = append(arguments, string(container))
		}
		_, _ = e.Docker(ctx, arguments...)
	}
}

func (e *Engine) removeDir() {
	if e.lock == nil {
		return
	}
	scrub(e.Dir)
	if e.temporary {
		_ = os.RemoveAll(e.Dir)
	}
	_ = e.lock.Close()
	e.lock = nil
}
