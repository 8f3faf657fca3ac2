package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/connpool/connpool/internal/driver"
	connpoolssh "github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
)

// The contenders of the commands.
const (
	ours          = "driver"
	library       = "bare x/crypto session"
	controlMaster = "ssh -S (ControlMaster)"
	fresh         = "fresh ssh host true"
	roundTrip     = "one bare round trip"
)

// measureCommands compares one `true` on a warm connection with its alternatives
// on loopback: with the library in one race and with ssh in another one, because
// a contender that runs after a process was started finds the caches cold.
func measureCommands(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	r, err := bed.reach(ctx, bed.server.Addr)
	if err != nil {
		return nil, err
	}
	defer r.close()
	s.say("race the library")
	beside, err := race(ctx, of(s, 20*time.Second, time.Second), r.driver(), r.library())
	if err != nil {
		return nil, err
	}
	s.say("race ssh")
	besideSSH, err := race(ctx, of(s, 30*time.Second, 2*time.Second), r.driver(), r.controlMaster(), r.fresh())
	if err != nil {
		return nil, err
	}
	const name = "warm command"
	return slices.Concat(
		rank(name, besideSSH, fresh, atMostRatio(0.1)),
		rank(name, besideSSH, controlMaster, atMostRatio(0.5)),
		rank(name, beside, library, atMostRatio(1.05)),
	), nil
}

// measureDistantCommands does the same through a proxy that adds a round trip
// of 50 ms, where the number of round trips is all that counts.
func measureDistantCommands(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	proxy, err := netfault.Start(bed.server.Addr, netfault.Options{RoundTrip: 50 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	r, err := bed.reach(ctx, proxy.Addr)
	if err != nil {
		return nil, err
	}
	defer r.close()
	s.say("race the round trip, the library and ssh, 50 ms away")
	took, err := race(ctx, of(s, 30*time.Second, 2*time.Second),
		r.driver(), r.roundTrip(), r.library(), r.controlMaster())
	if err != nil {
		return nil, err
	}
	const name = "warm command, 50 ms away"
	return slices.Concat(
		rank(name, took, roundTrip, atMostRatio(1.1)),
		rank(name, took, controlMaster, atMostRatio(0.6)),
		rank(name, took, library, noGoal),
	), nil
}

func atMostRatio(limit float64) func(row) row { return func(r row) row { return r.ratioAtMost(limit) } }

func noGoal(r row) row { return r }

// rank compares the driver with another contender, with a goal for the medians.
func rank(name string, took map[string][]float64, other string, goal func(row) row) []row {
	at := func(percent int) row {
		return compared(fmt.Sprintf("%s, p%d", name, percent),
			percentile(took[ours], percent), "ms", other, percentile(took[other], percent))
	}
	return []row{goal(at(50)), at(99)}
}

// testbed is a real OpenSSH server with a user whose shell is plain.
type testbed struct {
	server     *openssh.Server
	removeUser func()
}

// newTestbed starts it, with further lines of sshd_config.
func newTestbed(ctx context.Context, config ...string) (*testbed, error) {
	bed := &testbed{removeUser: func() {}}
	options := openssh.Options{Config: config}
	if os.Geteuid() == 0 {
		options.User = "connpool-bench"
		remove, err := openssh.CreateUser(options.User)
		if err != nil {
			return nil, fmt.Errorf("make a user: %w", err)
		}
		bed.removeUser = remove
	}
	var err error
	if bed.server, err = openssh.Start(ctx, options); err != nil {
		bed.removeUser()
		return nil, err
	}
	return bed, nil
}

func (b *testbed) close() {
	b.server.Stop()
	b.removeUser()
}

// route is one address of the server, and warm connections to it.
type route struct {
	server  *openssh.Server
	address string
	dir     string // has the key and the known hosts
	conn    driver.Conn
	client  *ssh.Client
	master  *exec.Cmd
}

func (b *testbed) reach(ctx context.Context, address string) (*route, error) {
	dir, err := os.MkdirTemp("", "connpool-bench-")
	if err != nil {
		return nil, err
	}
	r := &route{server: b.server, address: address, dir: dir}
	if err := r.connect(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *route) connect(ctx context.Context) (err error) {
	for name, content := range map[string][]byte{"key": r.server.PrivateKey, "known_hosts": r.knownHosts()} {
		if err := os.WriteFile(filepath.Join(r.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	if r.client, err = dialBare(ctx, r.address, r.server.User, r.server.PrivateKey, r.server.HostKey); err != nil {
		return err
	}
	dialer, err := connpoolssh.New(connpoolssh.Options{}).Prepare(driver.Endpoint{
		Address: r.address, User: r.server.User, KnownHosts: r.knownHosts(),
		Credentials:       map[string][]byte{"ssh-privatekey": r.server.PrivateKey},
		Dial:              new(net.Dialer).DialContext,
		KeepaliveInterval: 15 * time.Second, KeepaliveTimeout: 5 * time.Second,
	})
	if err != nil {
		return err
	}
	if r.conn, err = dialer.Dial(ctx); err != nil {
		return err
	}
	return r.startMaster(ctx)
}

func (r *route) knownHosts() []byte {
	return []byte(knownhosts.Line([]string{r.address}, r.server.HostKey) + "\n")
}

func (r *route) close() {
	if r.conn != nil {
		_ = r.conn.Close()
	}
	if r.client != nil {
		_ = r.client.Close()
	}
	if r.master != nil {
		_ = r.master.Cancel()
		_ = r.master.Wait()
	}
	_ = os.RemoveAll(r.dir)
}

// ssh is a command of OpenSSH's client that no configuration of the user's
// changes.
func (r *route) ssh(ctx context.Context, arguments ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(r.address)
	common := []string{
		"-F", "none", "-i", filepath.Join(r.dir, "key"), "-p", port, "-l", r.server.User,
		"-o", "UserKnownHostsFile=" + filepath.Join(r.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
		"-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", host,
	}
	return exec.CommandContext(ctx, "ssh", slices.Concat(arguments[:len(arguments)-1], common, arguments[len(arguments)-1:])...)
}

func (r *route) socket() string { return filepath.Join(r.dir, "master") }

// startMaster returns when the master serves: then it echoes.
func (r *route) startMaster(ctx context.Context) error {
	master := r.ssh(ctx, "-M", "-S", r.socket(), "cat")
	process.Tie(master)
	var complaint bytes.Buffer
	master.Stderr = &complaint
	stdin, err := master.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := master.StdoutPipe()
	if err != nil {
		return err
	}
	if err := master.Start(); err != nil {
		return err
	}
	r.master = master
	if _, err := io.WriteString(stdin, "x"); err != nil {
		return err
	}
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		return fmt.Errorf("start a master: %w: %s", err, &complaint)
	}
	return nil
}

func (r *route) driver() contender {
	return contender{ours, func(ctx context.Context) error {
		execer, ok := r.conn.(driver.Execer)
		if !ok {
			return fmt.Errorf("%T runs no commands", r.conn)
		}
		_, err := execer.Exec(ctx, driver.Command{Argv: []string{"true"}}, driver.Streams{})
		return err
	}, 1}
}

func (r *route) library() contender {
	return contender{library, func(context.Context) error { return runBare(r.client, "'true'") }, 1}
}

func (r *route) roundTrip() contender {
	return contender{roundTrip, func(context.Context) error {
		_, _, err := r.client.SendRequest("keepalive@openssh.com", true, nil)
		return err
	}, 1}
}

func (r *route) controlMaster() contender {
	return contender{controlMaster, func(ctx context.Context) error { return r.ssh(ctx, "-S", r.socket(), "true").Run() }, 1}
}

func (r *route) fresh() contender {
	return contender{fresh, func(ctx context.Context) error { return r.ssh(ctx, "true").Run() }, 4}
}
