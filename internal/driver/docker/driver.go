// Package docker is the Docker driver, on github.com/docker/docker/client.
//
//	dialer, err := docker.New(docker.Options{}).Prepare(endpoint)
//	conn, err := dialer.Dial(ctx)
//	status, err := conn.(driver.Execer).Exec(ctx, command, streams)
//	response, err := conn.(driver.Proxier).Proxy(request)
//	containers, err := conn.(inventory.Lister).List(ctx, query)
//
// An engine on TCP is always reached with mutual TLS: the credentials are ca.crt,
// tls.crt and tls.key of the target's Secret. A unix socket takes none. It may be on
// this host or at the end of an SSH connection: the endpoint's DialFunc decides.
//
// Docker has no long-lived connections: each command takes a socket of its own, and
// its streams use the socket up. So a connection here is an engine that answered with
// valid credentials, one HTTP transport, and a few sockets that are dialed and
// encrypted ahead, for commands and requests alike. A command waits for a handshake
// only if many start at the same moment. The price is two sockets and a goroutine for
// each while the connection is idle. The death of an engine is noticed at once,
// because those sockets end with it.
//
// A command costs three round trips: create, start, and asking for its exit code. The
// driver writes the start itself, once, so that net/http cannot send it again. The
// engine forgets commands when it restarts, so the outcome of a command that this
// interrupts stays unknown.
//
// The engine cannot signal a command. So every command has a random value in its
// environment, CONNPOOL_COMMAND. To cancel it, the driver runs a shell in the same
// container, as the user of all commands. The shell lists the processes; those that have
// the value, their descendants and what else is in their sessions are the command's, and
// are signaled. A program that was started without the value and has replaced the first
// process is recognized only if no other process can be it. Then the driver looks again,
// and says whether all have ended. The container may have no shell, or be paused; then
// the caller is told that the command may go on.
//
// The engine does not end the streams of a command whose container dies in an unusual
// way. So the driver looks at the containers of long commands now and then.
//
// The Docker API carries commands as JSON, so arguments that are not UTF-8 are
// refused. Engines before API 1.42 get a terminal's size only once the command runs.
package docker

import (
	"cmp"
	"crypto/tls"
	"path"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// Options change the driver's patience. The zero value is right for production;
// tests shorten it.
type Options struct {
	// StageTimeout bounds each stage of dialing, and each answer of the engine to
	// a create or start; 10 s when 0.
	StageTimeout time.Duration
	// KillGrace is how long a canceled command may take to end after TERM, and
	// again after KILL, and the streams of any command after its container; 2 s
	// when 0.
	KillGrace time.Duration
	// WatchInterval is how often the containers of commands are looked at that have
	// run for that long; 5 s when 0.
	WatchInterval time.Duration
}

// Driver implements driver.Driver.
type Driver struct{ options Options }

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Dialer    = (*dialer)(nil)
	_ driver.Conn      = (*conn)(nil)
	_ driver.Signaler  = (*conn)(nil)
	_ driver.Execer    = (*conn)(nil)
	_ driver.Proxier   = (*conn)(nil)
	_ inventory.Lister = (*conn)(nil)
)

// New returns a driver.
func New(options Options) *Driver {
	return &Driver{options: Options{
		StageTimeout: cmp.Or(options.StageTimeout, 10*time.Second), KillGrace: cmp.Or(options.KillGrace, 2*time.Second),
		WatchInterval: cmp.Or(options.WatchInterval, 5*time.Second),
	}}
}

// Prepare implements driver.Driver.
func (d *Driver) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	if endpoint.Reopen == nil {
		endpoint.Reopen = endpoint.Dial
	}
	prepared := &dialer{options: d.options, endpoint: endpoint}
	if endpoint.Network == "unix" {
		return prepared, checkSocket(endpoint)
	}
	prepared.endpoint.Network = "tcp"
	var err error
	prepared.credentials, err = parseCredentials(endpoint.Credentials, time.Now())
	if err != nil {
		return nil, err
	}
	prepared.tls, err = prepared.credentials.config(endpoint.Address)
	return prepared, err
}

func checkSocket(endpoint driver.Endpoint) error {
	switch {
	case !path.IsAbs(endpoint.Address):
		return driver.Errorf(driver.ProtocolError, driver.StagePrepare,
			"the path of the Docker socket must be absolute, such as /var/run/docker.sock; correct the endpoint")
	case len(endpoint.Credentials) > 0:
		return invalid("a unix socket takes no TLS credentials; remove them, or reach the engine with tcp://")
	}
	return nil
}

// With implements driver.Dialer.
func (d *dialer) With(change func(*driver.Endpoint)) driver.Dialer {
	changed := *d
	change(&changed.endpoint)
	return &changed
}

// dialer implements driver.Dialer.
type dialer struct {
	options     Options
	endpoint    driver.Endpoint
	credentials *credentials // nil for a unix socket
	tls         *tls.Config  // nil for a unix socket
}
