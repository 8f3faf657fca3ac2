package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/docker"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/netfault"
)

// The contenders of the commands in containers, beside the driver.
const (
	dockerExec    = "docker exec"
	dockerOverSSH = "docker -H ssh:// exec"
	oursOverSSH   = "driver over pooled ssh"
	oursInSession = "session"
)

// distance is how far away a remote is.
type distance struct {
	roundTrip time.Duration
	words     string // behind the name of a row
}

var distances = []distance{{}, {50 * time.Millisecond, ", 50 ms away"}}

// oneRoundTrip is what a session's command may take at most where a round trip
// takes 50 ms.
const oneRoundTrip = 60

// measureContainers compares a `true` in a container with the docker CLI, over TLS
// and over SSH, next to us and 50 ms away.
func measureContainers(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	yard, err := openYard(ctx)
	if err != nil {
		return nil, err
	}
	defer yard.close() //nolint:contextcheck // it cleans up whatever became of ctx
	var rows []row
	for _, d := range distances {
		s.say("race commands in a container%s", d.words)
		took, err := yard.race(ctx, s, bed, d)
		if err != nil {
			return rows, err
		}
		rows = append(rows, yardRows(took, d)...)
	}
	return rows, nil
}

func yardRows(took map[string][]float64, d distance) []row {
	const name = "command in a container"
	overSSH := compared(name+" over ssh"+d.words+", p50", median(took[oursOverSSH]), "ms", dockerOverSSH, median(took[dockerOverSSH]))
	return slices.Concat(
		rank(name+d.words, took, dockerExec, atMostRatio(0.5)),
		[]row{overSSH.ratioAtMost(0.2)},
		sessionRows("command in a container's session", took, dockerExec, d),
	)
}

// sessionRows are about a command in a session, which is one round trip.
func sessionRows(name string, took map[string][]float64, cli string, d distance) []row {
	beside := compared(name+d.words+", p50", median(took[oursInSession]), "ms", cli, median(took[cli])).ratioAtMost(0.2)
	if d.roundTrip == 0 {
		return []row{beside}
	}
	return []row{beside, figure(name+d.words+", p50: one round trip", median(took[oursInSession]), "ms").atMost(oneRoundTrip)}
}

// yard is a Docker engine with a container, and the files that the CLI reads.
type yard struct {
	engine    *dockerd.Engine
	container string
	dir       string
}

func openYard(ctx context.Context) (y *yard, err error) {
	y = &yard{}
	if y.dir, err = os.MkdirTemp("", "connpool-bench-"); err != nil {
		return nil, err
	}
	if err := y.start(ctx); err != nil {
		y.close() //nolint:contextcheck // it cleans up whatever became of ctx
		return nil, err
	}
	return y, nil
}

func (y *yard) start(ctx context.Context) (err error) {
	if y.engine, err = dockerd.New(ctx, dockerd.Options{}); err != nil {
		return err
	}
	if y.container, err = y.engine.Container(ctx); err != nil {
		return err
	}
	return y.prepare()
}

// prepare writes the files of the CLI, and lets the user of the SSH server open
// the socket.
func (y *yard) prepare() error {
	files := map[string][]byte{"ca.pem": y.engine.CA, "cert.pem": y.engine.Cert, "key.pem": y.engine.Key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(y.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	if err := os.Chmod(y.engine.Dir, 0o711); err != nil { //nolint:gosec // to pass through
		return err
	}
	return os.Chmod(y.engine.Socket, 0o666) //nolint:gosec // for the user who logs in
}

func (y *yard) close() {
	if y.engine != nil {
		y.engine.Stop()
	}
	_ = os.RemoveAll(y.dir)
}

// race lets all ways into the container compete, each over so far a way.
func (y *yard) race(ctx context.Context, s settings, bed *testbed, d distance) (map[string][]float64, error) {
	engine, err := netfault.Start(y.engine.TCP, netfault.Options{RoundTrip: d.roundTrip})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	server, err := netfault.Start(bed.server.Addr, netfault.Options{RoundTrip: d.roundTrip})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	host, err := bed.reach(ctx, server.Addr)
	if err != nil {
		return nil, err
	}
	defer host.close()
	overTLS, err := dialEngine(ctx, y.overTLS(engine.Addr))
	if err != nil {
		return nil, err
	}
	defer overTLS.Close() //nolint:errcheck // the end of a benchmark
	overSSH, err := dialEngine(ctx, y.overSSH(host.conn))
	if err != nil {
		return nil, err
	}
	defer overSSH.Close() //nolint:errcheck // the end of a benchmark
	place := driver.Place{Container: y.container}
	shell, err := sessionOn(ctx, overTLS, place)
	if err != nil {
		return nil, err
	}
	defer shell.Close()
	return race(ctx, of(s, 40*time.Second, 3*time.Second),
		runs(ours, overTLS, place), runs(oursOverSSH, overSSH, place), inSession(shell),
		y.cli(engine.Addr), y.cliOverSSH(ctx, host))
}

func (y *yard) overTLS(address string) driver.Endpoint {
	return driver.Endpoint{
		Network: "tcp", Address: address, Dial: new(net.Dialer).DialContext,
		Credentials: map[string][]byte{"ca.crt": y.engine.CA, "tls.crt": y.engine.Cert, "tls.key": y.engine.Key},
	}
}

func (y *yard) overSSH(host driver.Conn) driver.Endpoint {
	return driver.Endpoint{
		Network: "unix", Address: y.engine.Socket,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return host.(driver.Forwarder).Forward(ctx, network, address) //nolint:forcetypeassert // the SSH driver's
		},
	}
}

func dialEngine(ctx context.Context, endpoint driver.Endpoint) (driver.Conn, error) {
	return dialBy(ctx, docker.New(docker.Options{}), endpoint)
}

// dialBy makes a connection with the keepalive that pools have by default.
func dialBy(ctx context.Context, by driver.Driver, endpoint driver.Endpoint) (driver.Conn, error) {
	endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout = 15*time.Second, 5*time.Second
	dialer, err := by.Prepare(endpoint)
	if err != nil {
		return nil, err
	}
	return dialer.Dial(ctx)
}

// runs is a `true` at a place, over a warm connection.
func runs(name string, conn driver.Conn, place driver.Place) contender {
	return contender{name, func(ctx context.Context) error {
		execer, ok := conn.(driver.Execer)
		if !ok {
			return fmt.Errorf("%T runs no commands", conn)
		}
		_, err := execer.Exec(ctx, driver.Command{Place: place, Argv: []string{"true"}}, driver.Streams{})
		return err
	}, 1}
}

func (y *yard) cli(address string) contender {
	return contender{dockerExec, func(ctx context.Context) error {
		cli, err := dockerd.Command(ctx, "tcp://"+address, "--tlsverify", "--tlscacert", filepath.Join(y.dir, "ca.pem"),
			"--tlscert", filepath.Join(y.dir, "cert.pem"), "--tlskey", filepath.Join(y.dir, "key.pem"), "exec", y.container, "true")
		if err != nil {
			return err
		}
		return finish(cli)
	}, 1}
}

// cliOverSSH has the CLI find an ssh that knows the benchmark's server: docker
// has no option for its key and port.
func (y *yard) cliOverSSH(ctx context.Context, host *way) contender {
	line := host.ssh(ctx, fmt.Sprintf("DOCKER_HOST=unix://%s exec docker system dial-stdio", y.engine.Socket))
	script := "#!/bin/sh\nexec " + driver.Quote(slices.Concat([]string{line.Path}, line.Args[1:])) + "\n"
	return contender{dockerOverSSH, func(ctx context.Context) error {
		if err := os.WriteFile(filepath.Join(host.dir, "ssh"), []byte(script), 0o700); err != nil { //nolint:gosec // a program
			return err
		}
		cli, err := dockerd.Command(ctx, "ssh://host", "exec", y.container, "true")
		if err != nil {
			return err
		}
		if cli.Env == nil {
			cli.Env = os.Environ()
		}
		cli.Env = append(cli.Env, "PATH="+host.dir+":"+os.Getenv("PATH"))
		return finish(cli)
	}, 4}
}

// finish runs a program and returns what it complained of.
func finish(program *exec.Cmd) error {
	if output, err := program.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
