package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	connpoolssh "github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/egress"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/sshserver"
)

// roleVariable is the environment variable that makes this program one part of
// the measurement, in a process whose memory can be measured alone.
const roleVariable = "CONNPOOL_BENCH_ROLE"

// gcPercent is the operator's own setting, in internal/operator; the comparator gets
// the same.
const gcPercent = 50

// The roles: an SSH server, two that hold connections to it, and one that holds
// connections to a cluster.
const (
	roleServer   = "server"
	rolePool     = "pool"
	roleLibrary  = "library"
	roleClusters = "clusters"
)

// served is how a server is reached from another process.
type served struct {
	Addr       string `json:"addr"`
	KnownHosts string `json:"knownHosts"`
	// UserKey is a private key in PEM.
	UserKey []byte `json:"userKey"`
	// HostKey in the wire format.
	HostKey []byte `json:"hostKey"`
	// Kubeconfigs lead to a cluster, with a credential each.
	Kubeconfigs [][]byte `json:"kubeconfigs,omitempty"`
}

// footprint is the resident memory that each connection costs, in KiB.
type footprint struct {
	// AsWarmed is what it costs once all are warm. It includes the room that Go's
	// garbage collector keeps beside live memory and does not return while a
	// process is idle.
	AsWarmed float64 `json:"asWarmed"`
	// Collected is what it costs without that room.
	Collected float64 `json:"collected"`
}

// measureMemory compares what an idle connection costs the operator's pools with
// what the library alone costs. Clients and server are processes of their own.
func measureMemory(ctx context.Context, s settings) ([]row, error) {
	count := of(s, 2000, 100)
	server, err := startRole(ctx, roleServer)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var at served
	if err := server.read(&at); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	costs := map[string]footprint{}
	for _, role := range []string{rolePool, roleLibrary} {
		s.say("hold %d connections by the %s", count, role)
		if costs[role], err = hold(ctx, role, at, count); err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
	}
	name := fmt.Sprintf("%d idle connections, resident each", count)
	const beside = "bare x/crypto connection"
	mine, theirs := costs[rolePool], costs[roleLibrary]
	return []row{
		compared(name, mine.AsWarmed, "KiB", beside, theirs.AsWarmed).atMost(58),
		compared(name+", garbage collected", mine.Collected, "KiB", beside, theirs.Collected).atMost(48),
	}, nil
}

// hold runs a client until it has reported what its connections cost.
func hold(ctx context.Context, role string, at served, count int) (cost footprint, err error) {
	client, err := startRole(ctx, role, strconv.Itoa(count))
	if err != nil {
		return cost, err
	}
	defer client.stop()
	if err := json.NewEncoder(client.stdin).Encode(at); err != nil {
		return cost, fmt.Errorf("tell it where to connect: %w", err)
	}
	err = client.read(&cost)
	return cost, err
}

// player is this program in a role. It prints JSON.
type player struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
}

func startRole(ctx context.Context, role string, arguments ...string) (*player, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &player{cmd: exec.CommandContext(ctx, program)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(append([]string{role}, arguments...), " "))
	p.cmd.Stderr = os.Stderr
	process.Tie(p.cmd)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.cmd.Start()
}

func (p *player) read(value any) error { return json.NewDecoder(p.stdout).Decode(value) }

// stop ends the input, and with it a server; a client ends by itself.
func (p *player) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// play plays a role.
func play(ctx context.Context, role string) error {
	name, number, _ := strings.Cut(role, " ")
	if name == roleServer {
		return serve(os.Stdin, os.Stdout)
	}
	if name == roleFleet {
		return serveFleet(number, os.Stdin, os.Stdout)
	}
	count, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("play %q: %w", role, err)
	}
	fill := fillPools
	switch name {
	case roleLibrary:
		fill = dialLibrary
	case roleClusters:
		fill = fillClusters
	}
	input := json.NewDecoder(os.Stdin)
	var at served
	if err := input.Decode(&at); err != nil {
		return fmt.Errorf("learn where to connect: %w", err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cost, err := weigh(func() (any, error) { return fill(ctx, at, count) }, count)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(cost)
}

// serve prints how to reach a server and serves until the input ends.
func serve(input io.Reader, output io.Writer) error {
	server, err := startServer(sshserver.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	at := served{Addr: server.Addr, KnownHosts: server.KnownHosts, UserKey: server.PrivateKey, HostKey: server.HostKey.Marshal()}
	if err := json.NewEncoder(output).Encode(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, input)
	return err
}

// weigh reports by how much this process grows.
func weigh(fill func() (any, error), count int) (cost footprint, err error) {
	before, err := residentKiB(os.Getpid())
	if err != nil {
		return cost, err
	}
	held, err := fill()
	if err != nil {
		return cost, err
	}
	defer runtime.KeepAlive(held)
	warm, err := residentKiB(os.Getpid())
	if err != nil {
		return cost, err
	}
	debug.FreeOSMemory()
	collected, err := residentKiB(os.Getpid())
	each := float64(count)
	return footprint{(warm - before) / each, (collected - before) / each}, err
}

// ensure applies a target, once its credentials are prepared.
func ensure(pools *poolset.Set, target poolset.Target) error {
	for {
		err := pools.Ensure(target)
		preparing, ok := errors.AsType[*poolset.PreparingError](err)
		if !ok {
			return err
		}
		<-preparing.Done
	}
}

// fillPools holds connections as the operator does: each target with a pool of
// its own, by the defaults of the API, used once.
func fillPools(ctx context.Context, at served, count int) (any, error) {
	policy := egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	pools := poolset.New(policy.Dial, dialbudget.New(dialsAtOnce, dialsAtOnce, dialsAtOnce))
	sshDriver := connpoolssh.New(connpoolssh.Options{})
	group, ctx := errgroup.WithContext(ctx)
	for i := range count {
		uid := strconv.Itoa(i)
		if err := ensure(pools, targetOn(at, uid, sshDriver)); err != nil {
			return nil, err
		}
		group.Go(func() error {
			request := poolset.Request{Pool: "pool", Target: uid}
			lease, err := pools.Acquire(ctx, request)
			if err != nil {
				return err
			}
			_, err = pools.ExecOn(ctx, lease, request, driver.Command{Argv: []string{"true"}}, driver.Streams{})
			return err
		})
	}
	return pools, group.Wait()
}

func targetOn(at served, uid string, sshDriver driver.Driver) poolset.Target {
	return poolset.Target{
		Ref: poolset.Ref{UID: uid, Namespace: namespace, Name: uid},
		Access: poolset.Access{
			Driver: sshDriver, Identity: at.Addr, Version: "1",
			Endpoint: driver.Endpoint{
				Address: at.Addr, User: "bench", KnownHosts: []byte(at.KnownHosts),
				Credentials: map[string][]byte{"ssh-privatekey": at.UserKey},
			},
		},
		Type: "ssh",
		Pools: []poolset.Pool{{
			Ref: poolset.Ref{UID: "pool", Namespace: namespace, Name: "pool"},
			Policy: poolset.Policy{
				Limits: connpool.Limits{
					MinWarm: 1, Max: 4, LeasesPerConn: 8, MaxPending: 100, AcquireTimeout: 5 * time.Minute,
					MaxAge: time.Hour, MaxIdle: 5 * time.Minute, DrainTimeout: time.Second,
					ProbePeriod: time.Minute, ProbeTimeout: 5 * time.Second, ProbeFailures: 3,
				},
				KeepaliveInterval: 15 * time.Second, KeepaliveTimeout: 5 * time.Second,
				FailureThreshold: 3, SuccessThreshold: 2,
			},
		}},
	}
}

// dialLibrary holds connections of the library alone, used once.
func dialLibrary(ctx context.Context, at served, count int) (any, error) {
	hostKey, err := ssh.ParsePublicKey(at.HostKey)
	if err != nil {
		return nil, err
	}
	clients := make([]*ssh.Client, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dialsAtOnce)
	for i := range clients {
		group.Go(func() error {
			client, err := dialBare(ctx, at.Addr, "bench", at.UserKey, hostKey)
			if err != nil {
				return err
			}
			clients[i] = client
			return runBare(client, "true")
		})
	}
	return clients, group.Wait()
}
