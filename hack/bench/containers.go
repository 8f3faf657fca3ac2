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
	"github.com/connpool/connpool/internal/driver/shellquote"
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
	words     string // after the name of a row
}

var distances = []distance{{}, {50 * time.Millisecond, ", 50 ms away"}}

// oneRoundTrip is what a session's command may take at most where a round trip
// takes 50 ms.
const oneRoundTrip = 60

// measureContainers compares a `true` in a container with the docker CLI, over TLS
// and over SSH, on this machine and 50 ms away.
func measureContainers(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	machine, err := openDockerHost(ctx)
	if err != nil {
		return nil, err
	}
	defer machine.close() //nolint:contextcheck // it cleans up whatever became of ctx
	var rows []row
	for _, d := range distances {
		s.say("race commands in a container%s", d.words)
		took, err := machine.race(ctx, s, bed, d)
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

// dockerHost is a Docker engine with a container, and the files that the CLI reads.
type dockerHost struct {
	engine    *dockerd.Engine
	container string
	dir       string
}

func openDockerHost(ctx context.Context) (h *dockerHost, err error) {
	h = &dockerHost{}
	if h.dir, err = os.MkdirTemp("", "connpool-bench-"); err != nil {
		return nil, err
	}
	if err := h.start(ctx); err != nil {
		h.close() //nolint:contextcheck // it cleans up whatever became of ctx
		return nil, err
	}
	return h, nil
}

func (h *dockerHost) start(ctx context.Context) (err error) {
	if h.engine, err = dockerd.New(ctx, dockerd.Options{}); err != nil {
		return err
	}
	if h.container, err = h.engine.Container(ctx); err != nil {
		return err
	}
	return h.prepare()
}

// prepare writes the files of the CLI, and lets the user of the SSH server open
// the socket.
func (h *dockerHost) prepare() error {
	files := map[string][]byte{"ca.pem": h.engine.CA, "cert.pem": h.engine.Cert, "key.pem": h.engine.Key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(h.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	if err := os.Chmod(h.engine.Dir, 0o711); err != nil { //nolint:gosec // to pass through
		return err
	}
	return os.Chmod(h.engine.Socket, 0o666) //nolint:gosec // for the user who logs in
}

func (h *dockerHost) close() {
	if h.engine != nil {
		h.engine.Stop()
	}
	_ = os.RemoveAll(h.dir)
}

// race runs a command in the container by every contender, at this distance.
func (h *dockerHost) race(ctx context.Context, s settings, bed *testbed, d distance) (map[string][]float64, error) {
	engine, err := netfault.Start(h.engine.TCP, netfault.Options{RoundTrip: d.roundTrip})
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
	overTLS, err := dialEngine(ctx, h.overTLS(engine.Addr))
	if err != nil {
		return nil, err
	}
	defer overTLS.Close() //nolint:errcheck // the end of a benchmark
	overSSH, err := dialEngine(ctx, h.overSSH(host.conn))
	if err != nil {
		return nil, err
	}
	defer overSSH.Close() //nolint:errcheck // the end of a benchmark
	place := driver.Place{Container: h.container}
	shell, err := sessionOn(ctx, overTLS, place)
	if err != nil {
		return nil, err
	}
	defer shell.Close()
	return race(ctx, of(s, 40*time.Second, 3*time.Second),
		runs(ours, overTLS, place), runs(oursOverSSH, overSSH, place), inSession(shell),
		h.cli(engine.Addr), h.cliOverSSH(ctx, host))
}

func (h *dockerHost) overTLS(address string) driver.Endpoint {
	return driver.Endpoint{
		Network: "tcp", Address: address, Dial: new(net.Dialer).DialContext,
		Credentials: map[string][]byte{"ca.crt": h.engine.CA, "tls.crt": h.engine.Cert, "tls.key": h.engine.Key},
	}
}

func (h *dockerHost) overSSH(host driver.Conn) driver.Endpoint {
	return driver.Endpoint{
		Network: "unix", Address: h.engine.Socket,
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

func (h *dockerHost) cli(address string) contender {
	return contender{dockerExec, func(ctx context.Context) error {
		cli, err := dockerd.Command(ctx, "tcp://"+address, "--tlsverify", "--tlscacert", filepath.Join(h.dir, "ca.pem"),
			"--tlscert", filepath.Join(h.dir, "cert.pem"), "--tlskey", filepath.Join(h.dir, "key.pem"), "exec", h.container, "true")
		if err != nil {
			return err
		}
		return finish(cli)
	}, 1}
}

// cliOverSSH has the CLI find an ssh that knows the benchmark's server: docker
// has no option for its key and port.
func (h *dockerHost) cliOverSSH(ctx context.Context, host *route) contender {
	line := host.ssh(ctx, fmt.Sprintf("DOCKER_HOST=unix://%s exec docker system dial-stdio", h.engine.Socket))
	script := "#!/bin/sh\nexec " + shellquote.Words(slices.Concat([]string{line.Path}, line.Args[1:])) + "\n"
	return contender{dockerOverSSH, func(ctx context.Context) error {
		if err := os.WriteFile(filepath.Join(host.dir, "ssh"), []byte(script), 0o700); err != nil { //nolint:gosec // a program
			return err
		}
		cli, err := dockerd.Command(ctx, "ssh://host", "exec", h.container, "true")
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

// finish runs a program. If it fails, its output is in the error.
func finish(program *exec.Cmd) error {
	if output, err := program.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
