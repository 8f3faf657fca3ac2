// Package ssh is the SSH driver, on golang.org/x/crypto/ssh.
//
//	dialer, err := ssh.New(ssh.Options{}).Prepare(endpoint)
//	conn, err := dialer.Dial(ctx)
//	status, err := conn.(driver.Execer).Exec(ctx, command, streams)
//
// Credentials are the keys of the target's Secret: ssh-privatekey, with
// passphrase and ssh-certificate where needed, or password. The driver offers one of
// them, once, and only to a server that has proved a pinned identity.
//
// The library never times out by itself, so every stage here has a deadline of its
// own, enforced by closing the transport. A server that does not finish a stage ends
// the connection. A caller that gives up does not.
//
// One session channel is opened ahead and replaced when taken, so a command costs one
// round trip instead of two. The price is one of the server's MaxSessions, and 2 KiB while
// the connection is idle. Standard input is sent once the server has
// accepted the command: OpenSSH grants no window before, so sending earlier would gain
// nothing.
//
// A command with a terminal costs a second round trip, and each variable of its
// environment one more: it waits for the server's answer to the request for them, because
// it must not run without them. Variables are not put into the command line instead,
// where every user of the host could read their values.
package ssh

import (
	"cmp"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
)

// Options change the driver's patience. The zero value is right for production;
// tests shorten it.
type Options struct {
	// StageTimeout bounds each stage of dialing, and each answer of the server
	// to an open or start; 10 s when 0.
	StageTimeout time.Duration
	// KillGrace is how long a canceled command may take to end after TERM, and
	// again after KILL; 2 s when 0.
	KillGrace time.Duration
}

// Driver implements driver.Driver.
type Driver struct{ options Options }

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Dialer    = (*dialer)(nil)
	_ driver.Warner    = (*dialer)(nil)
	_ driver.Conn      = (*conn)(nil)
	_ driver.Execer    = (*conn)(nil)
	_ driver.Signaler  = (*conn)(nil)
	_ driver.Forwarder = (*conn)(nil)
	_ driver.Listener  = (*conn)(nil)
)

// New returns a driver.
func New(options Options) *Driver {
	return &Driver{options: Options{
		StageTimeout: cmp.Or(options.StageTimeout, 10*time.Second), KillGrace: cmp.Or(options.KillGrace, 2*time.Second),
	}}
}

// Prepare implements driver.Driver.
func (d *Driver) Prepare(endpoint driver.Endpoint) (driver.Dialer, error) {
	credentials, err := parseCredentials(endpoint.Credentials, time.Now())
	if err != nil {
		return nil, err
	}
	pins, err := knownhosts.Parse(endpoint.KnownHosts, endpoint.Address)
	if err != nil {
		return nil, err
	}
	return &dialer{options: d.options, endpoint: endpoint, credentials: credentials, pins: pins}, nil
}

// With implements driver.Dialer.
func (d *dialer) With(change func(*driver.Endpoint)) driver.Dialer {
	changed := *d
	change(&changed.endpoint)
	return &changed
}

// dialer implements driver.Dialer and driver.Warner.
type dialer struct {
	options     Options
	endpoint    driver.Endpoint
	credentials *credentials
	pins        *knownhosts.Pins
}

// Warning implements driver.Warner.
func (d *dialer) Warning() string { return d.pins.Warning() }
