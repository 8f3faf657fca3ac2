package poolset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/egress"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/sshserver"
)

// These tests run commands over real connections, through everything between a
// request and the remote process.

// remote is a set with one warm pool of a server in this process.
type remote struct {
	*testing.T
	server *sshserver.Server
	proxy  *netfault.Proxy
	set    *Set
	// direct has new connections go round the proxy.
	direct atomic.Bool
	// allow is what the egress policy permits.
	allow []netip.Prefix
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func startRemote(t *testing.T, handler sshserver.Handler, changes ...func(*Policy)) *remote {
	t.Helper()
	server, err := sshserver.Start(sshserver.Options{Handler: handler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	proxy, err := netfault.Start(server.Addr, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	r := &remote{T: t, server: server, proxy: proxy, allow: loopback}
	r.set = New(r.dial, dialbudget.New(30, 3, 6))
	t.Cleanup(func() { closed(r.set, 0) })
	if err := r.ensured(r.target(pool("p", changes...))); err != nil {
		t.Fatal(err)
	}
	return r
}

// ensured applies a target and returns how that ended, once its credentials are
// prepared.
func (r *remote) ensured(target Target) error {
	for {
		err := r.set.Ensure(target)
		preparing, ok := errors.AsType[*PreparingError](err)
		if !ok {
			return err
		}
		<-preparing.Done
	}
}

// dial finds the server, or the proxy before it, by name.
func (r *remote) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !r.direct.Load() {
		address = r.proxy.Addr
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return egress.Policy{Allow: r.allow}.Dial(ctx, network, net.JoinHostPort("localhost", port))
}

func (r *remote) target(pools ...Pool) Target {
	return Target{Ref: ref("web"), Type: "ssh", Pools: pools, Access: Access{
		Driver: ssh.New(ssh.Options{KillGrace: 200 * time.Millisecond}),
		Endpoint: driver.Endpoint{
			Address: r.server.Addr, User: "deploy", KnownHosts: []byte(r.server.KnownHosts),
			Credentials: map[string][]byte{"ssh-privatekey": r.server.PrivateKey},
		},
		Identity: r.server.Addr, Version: "v1",
	}}
}

// exec runs a command line.
func (r *remote) exec(ctx context.Context, line string, streams driver.Streams) (Execution, error) {
	return execIn(ctx, r.set, request("p", "web"), driver.Command{Shell: line}, streams)
}

func (r *remote) mustExec(line string, streams driver.Streams) Execution {
	r.Helper()
	execution, err := r.exec(r.Context(), line, streams)
	if err != nil {
		r.Errorf("%s: %v", line, err)
	}
	return execution
}

// ready is a writer that tells of its first write and then waits for release, if
// that is not nil.
type ready struct {
	once    sync.Once
	begun   chan struct{}
	release chan struct{}
}

func newReady() *ready { return &ready{begun: make(chan struct{})} }

func (w *ready) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	if w.release != nil {
		<-w.release
	}
	return len(p), nil
}

// F22: the client vanishes.
func TestACanceledCommandIsSignaledAndItsLeaseIsFreed(t *testing.T) {
	r := startRemote(t, nil, one)
	ended := filepath.Join(t.TempDir(), "ended")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout := newReady()
	go func() {
		<-stdout.begun
		cancel()
	}()
	execution, err := r.exec(ctx, fmt.Sprintf(`trap 'echo yes > %s; exit' TERM; while echo ready; do sleep 0.05; done`, ended),
		driver.Streams{Stdout: stdout})
	if driver.OutcomeOf(err) != driver.Unknown {
		t.Errorf("error %v, want the outcome to be unknown", err)
	}
	if text, err := os.ReadFile(ended); string(text) != "yes\n" {
		t.Errorf("the command was not signaled: %q, %v", text, err)
	}
	if next := r.mustExec("true", driver.Streams{}); next.Connection != execution.Connection {
		t.Errorf("the next command ran on connection %d, want %d", next.Connection, execution.Connection)
	}
}

// F21: back-pressure on that stream alone.
func TestASlowReaderHoldsBackItsOwnCommandOnly(t *testing.T) {
	r := startRemote(t, func(_ context.Context, command sshserver.Command) int {
		if command.Line == "flood" {
			_, _ = io.CopyN(command.Stdout, zeros{}, 16<<20)
		}
		return 0
	}, func(p *Policy) { p.Max = 1 })
	stuck := newReady()
	stuck.release = make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { r.mustExec("flood", driver.Streams{Stdout: stuck}) })
	<-stuck.begun
	for range 10 {
		if got := r.mustExec("quick", driver.Streams{}); got.How != connpool.Warm || got.Connection != 1 {
			t.Errorf("%s on connection %d, want warm on 1", got.How, got.Connection)
		}
	}
	close(stuck.release)
	running.Wait()
}

// zeros is an endless input.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// F21: input that the command does not read.
func TestInputThatIsNotReadHoldsBackNothing(t *testing.T) {
	release := make(chan struct{})
	r := startRemote(t, func(_ context.Context, command sshserver.Command) int {
		if command.Line == "deaf" {
			_, _ = io.WriteString(command.Stdout, "ready")
			<-release
		}
		return 0
	}, func(p *Policy) { p.Max = 1 })
	stdout := newReady()
	var running sync.WaitGroup
	running.Go(func() { r.mustExec("deaf", driver.Streams{Stdin: zeros{}, Stdout: stdout}) })
	<-stdout.begun
	r.mustExec("quick", driver.Streams{Stdin: zeros{}})
	close(release)
	running.Wait()
}

// F02 and F08.
func TestAConnectionThatIsLostInMidCommandLeavesItUnknownAtOnce(t *testing.T) {
	tests := map[string]func(*remote){
		"killed by the server": func(r *remote) { r.server.KillConnections() },
		"reset on the way":     func(r *remote) { r.proxy.Reset() },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			r := startRemote(t, func(ctx context.Context, command sshserver.Command) int {
				if command.Line == "long" {
					_, _ = io.WriteString(command.Stdout, "ready")
					<-ctx.Done()
				}
				return 0
			}, one)
			stdout := newReady()
			lost := make(chan time.Time, 1)
			go func() {
				<-stdout.begun
				lost <- time.Now()
				lose(r)
			}()
			execution, err := r.exec(t.Context(), "long", driver.Streams{Stdout: stdout})
			if took := time.Since(<-lost); driver.OutcomeOf(err) != driver.Unknown || took > time.Second {
				t.Errorf("error %v after %s, want it unknown within 1s", err, took)
			}
			if next := r.mustExec("quick", driver.Streams{}); next.Connection == execution.Connection {
				t.Error("the next command was given the dead connection")
			}
		})
	}
}

// F06: the reply is lost, then the caller's patience ends. The connection is not
// known to be dead, but no other caller gets it.
func TestAFrozenConnectionIsNotHandedOn(t *testing.T) {
	r := startRemote(t, func(ctx context.Context, command sshserver.Command) int {
		if command.Line == "long" {
			_, _ = io.WriteString(command.Stdout, "ready")
			<-ctx.Done()
		}
		return 0
	}, one, func(p *Policy) { p.KeepaliveInterval, p.KeepaliveTimeout = 500*time.Millisecond, 500*time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout := newReady()
	go func() {
		<-stdout.begun
		r.proxy.Set(netfault.DropBoth)
		r.direct.Store(true)
		cancel()
	}()
	execution, err := r.exec(ctx, "long", driver.Streams{Stdout: stdout})
	if driver.OutcomeOf(err) != driver.Unknown {
		t.Errorf("error %v, want the outcome to be unknown", err)
	}
	if next := r.mustExec("quick", driver.Streams{}); next.Connection == execution.Connection {
		t.Error("the next command was given the frozen connection")
	}
}

func TestACheckTellsWhatItFinds(t *testing.T) {
	r := startRemote(t, nil)
	got, err := r.set.Check(t.Context(), "web-uid")
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range got.Stages {
		if stage.Err != nil || stage.Found == "" || stage.Duration <= 0 {
			t.Errorf("%s: found %q in %s, %v", stage.Stage, stage.Found, stage.Duration, stage.Err)
		}
	}
	if diff := cmp.Diff(stagesUpTo(driver.StageSession), stagesOf(got)); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if got.Info.ServerVersion != "SSH-2.0-connpool_test" || got.Info.Handshake <= 0 {
		t.Errorf("info %+v", got.Info)
	}
}

func TestACheckNamesTheStageThatFails(t *testing.T) {
	tests := map[string]struct {
		breaks func(*remote, *Target)
		stage  driver.Stage
		reason driver.Reason
	}{
		"the address is denied": {func(r *remote, _ *Target) { r.allow = nil }, driver.StageConnect, driver.AddressDenied},
		"nothing listens":       {func(r *remote, _ *Target) { r.proxy.Close() }, driver.StageConnect, driver.Unreachable},
		"another host key": {
			func(r *remote, target *Target) {
				target.Endpoint.KnownHosts = []byte(startRemote(r.T, nil).server.KnownHosts)
			},
			driver.StageHostKey, driver.HostKeyMismatch,
		},
		"another private key": {
			func(r *remote, target *Target) {
				target.Endpoint.Credentials = map[string][]byte{"ssh-privatekey": startRemote(r.T, nil).server.PrivateKey}
			},
			driver.StageAuthentication, driver.AuthenticationFailed,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := startRemote(t, nil)
			r.mustExec("true", driver.Streams{}) // so that nothing is being dialed
			target := r.target(pool("p", paused))
			tc.breaks(r, &target)
			target.Version, target.Endpoint.KnownHosts = "v2", anyHost(target.Endpoint.KnownHosts)
			if err := r.ensured(target); err != nil {
				t.Fatal(err)
			}
			got, err := r.set.Check(t.Context(), "web-uid")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(stagesUpTo(tc.stage), stagesOf(got)); diff != "" {
				t.Errorf("stages (-want +got):\n%s", diff)
			}
			if last := got.Stages[len(got.Stages)-1]; last.Err == nil || last.Err.Reason != tc.reason {
				t.Errorf("ended by %v, want %s", last.Err, tc.reason)
			}
		})
	}
}

// anyHost removes the host from a known_hosts line, so that the key stands for
// every host.
func anyHost(line []byte) []byte {
	_, key, _ := bytes.Cut(line, []byte(" "))
	return key
}

// stagesUpTo are those that a check of a named host reaches before it ends.
func stagesUpTo(last driver.Stage) []driver.Stage {
	all := []driver.Stage{
		driver.StagePrepare, driver.StageResolve, driver.StageConnect, driver.StageBanner, driver.StageKeyExchange,
		driver.StageHostKey, driver.StageAuthentication, driver.StageSession,
	}
	return all[:slices.Index(all, last)+1]
}

func stagesOf(check Check) (stages []driver.Stage) {
	for _, stage := range check.Stages {
		stages = append(stages, stage.Stage)
	}
	return stages
}
