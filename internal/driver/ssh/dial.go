package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// maxAuthBanner bounds the texts that a server may show before it accepts a login.
const maxAuthBanner = 64 << 10

// Dial implements driver.Dialer.
func (d *dialer) Dial(ctx context.Context) (driver.Conn, error) {
	if err := d.credentials.checkTime(time.Now()); err != nil {
		return nil, err
	}
	begin := time.Now()
	network, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	a := newAttempt(d, network)
	defer a.timer.Stop()
	stop := context.AfterFunc(ctx, func() {
		a.fail(driver.Errorf(driver.Timeout, a.currentStage(), "the caller did not wait any longer").Because(ctx.Err()))
	})
	defer stop()
	return a.run(begin) //nolint:contextcheck // the connection has a life of its own
}

func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.options.StageTimeout)
	defer cancel()
	network, err := d.endpoint.Dial(ctx, "tcp", d.endpoint.Address)
	if err != nil {
		return nil, dialerr.Connect(err, d.endpoint.Address, hints)
	}
	if d.endpoint.KeepaliveInterval > 0 {
		setUserTimeout(network, d.endpoint.KeepaliveInterval+d.endpoint.KeepaliveTimeout)
	}
	return network, nil
}

// attempt is one handshake. The first failure counts. It closes the transport, which
// wakes all who wait on it.
type attempt struct {
	dialer    *dialer
	transport *transport
	greeting  *greeting
	conn      *conn
	offered   bool // credentials have been offered
	banner    int  // bytes of authentication banners

	mu      sync.Mutex // guards what follows
	stage   driver.Stage
	timer   *time.Timer
	failure error
	done    bool
}

func newAttempt(d *dialer, network net.Conn) *attempt {
	a := &attempt{dialer: d, stage: driver.StageBanner}
	a.greeting = &greeting{enter: a.enter}
	a.transport = &transport{Conn: network, greeting: a.greeting}
	a.conn = newConn(d, a.transport)
	a.timer = time.AfterFunc(d.options.StageTimeout, a.timeout)
	return a
}

func (a *attempt) run(begin time.Time) (driver.Conn, error) {
	client, channels, requests, err := ssh.NewClientConn(a.transport, a.dialer.endpoint.Address, a.config())
	if err != nil {
		return nil, a.explain(err)
	}
	a.enter(driver.StageSession, a.login())
	a.conn.client = client
	go a.conn.serve(channels, requests)
	opened := "no session is needed, because it only forwards"
	if !a.dialer.endpoint.ForwardOnly {
		opened = "session opened"
		if err := a.conn.spare.openFirst(); err != nil {
			a.fail(err)
		}
	}
	if err := a.finish(); err != nil {
		_ = a.conn.Close()
		return nil, err
	}
	a.dialer.endpoint.Passed(a.stage, opened)
	a.conn.info = driver.Info{
		ServerVersion: driver.Sanitize(string(client.ServerVersion())),
		RemoteAddress: a.transport.RemoteAddr().String(),
		Handshake:     time.Since(begin),
	}
	a.conn.monitor.Start()
	return a.conn, nil
}

func (a *attempt) login() string {
	if !a.offered {
		return a.dialer.endpoint.User + " logged in without credentials; the server asked for none"
	}
	return a.dialer.endpoint.User + " logged in with " + a.dialer.credentials.describe()
}

func (a *attempt) config() *ssh.ClientConfig {
	supported := ssh.SupportedAlgorithms()
	return &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: supported.KeyExchanges,
			Ciphers:      supported.Ciphers,
			MACs: slices.DeleteFunc(supported.MACs, func(mac string) bool {
				return strings.Contains(mac, "sha1")
			}),
		},
		User:              a.dialer.endpoint.User,
		ClientVersion:     "SSH-2.0-connpool",
		HostKeyAlgorithms: a.dialer.pins.algorithms(),
		HostKeyCallback:   a.checkHostKey,
		BannerCallback:    a.readBanner,
		AuthCallback:      a.authenticate,
	}
}

// enter reports what was found in the current stage and starts the deadline of the
// next. The lock keeps it from reporting anything once the attempt has ended.
func (a *attempt) enter(stage driver.Stage, found string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done || a.failure != nil {
		return
	}
	a.dialer.endpoint.Passed(a.stage, found)
	a.stage = stage
	a.timer.Reset(a.dialer.options.StageTimeout)
}

func (a *attempt) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done || a.failure != nil {
		return
	}
	a.failure = err
	_ = a.transport.Close()
}

func (a *attempt) timeout() {
	a.fail(driver.Errorf(driver.Timeout, a.currentStage(),
		"%s did not answer within %s; check that it is an SSH server and not overloaded",
		a.dialer.endpoint.Address, a.dialer.options.StageTimeout))
}

func (a *attempt) currentStage() driver.Stage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stage
}

func (a *attempt) finish() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done = true
	a.timer.Stop()
	return a.failure
}

// explain returns why the handshake failed: what the attempt found itself, or else the
// library's error.
func (a *attempt) explain(err error) error {
	if failure := a.finish(); failure != nil {
		return failure
	}
	if a.stage != driver.StageBanner {
		return handshakeError(err, a.stage, a.dialer.endpoint.Address)
	}
	return a.explainBanner(err)
}

func (a *attempt) explainBanner(err error) error {
	address, said := a.dialer.endpoint.Address, a.greeting.text()
	if refusal := throttled(said, address); refusal != nil {
		return refusal
	}
	if isClosed(err) && said == "" {
		return driver.Errorf(driver.Unreachable, driver.StageBanner,
			"%s closed the connection without a word; check that it is an SSH server that accepts this client", address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageBanner,
		"%s is not an SSH server, or greets in more than 64 KiB; check host and port. It said: %s",
		address, driver.Sanitize(said)).Because(err)
}

// checkHostKey is called in every key exchange, including those after the handshake.
func (a *attempt) checkHostKey(address string, _ net.Addr, key ssh.PublicKey) error {
	if a.conn.unasked.add(rekeyWeight) {
		return errors.New("too many key exchanges")
	}
	a.enter(driver.StageHostKey, "the server has proved that it owns the key it shows")
	if err := a.dialer.pins.check(address, key); err != nil {
		a.fail(err)
		return err
	}
	a.enter(driver.StageAuthentication, "the server showed "+describeKey(key)+", which hostKeys pin")
	return nil
}

func (a *attempt) readBanner(message string) error {
	if a.banner += len(message); a.banner <= maxAuthBanner {
		return nil
	}
	err := driver.Errorf(driver.ProtocolError, driver.StageAuthentication,
		"the server shows more than 64 KiB before it accepts a login; shorten its Banner")
	a.fail(err)
	return err
}

func (a *attempt) authenticate(server *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if a.transport.cut.Load() { // the library would report this as refused credentials
		return nil, io.ErrUnexpectedEOF
	}
	if len(server.AllowedMethods) == 0 {
		return nil, errors.New("no answer to the question how to authenticate")
	}
	method := a.dialer.credentials.method(server.AllowedMethods)
	if method != nil && !a.offered {
		a.offered = true
		return method, nil
	}
	err := a.refusedLogin(server)
	a.fail(err)
	return nil, err
}

func (a *attempt) refusedLogin(server *ssh.ClientAuthContext) error {
	login := a.dialer.endpoint.User + "@" + a.dialer.endpoint.Address
	allowed := driver.Sanitize(strings.Join(server.AllowedMethods, ", "))
	switch {
	case !a.offered:
		return driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
			"%s accepts only %s, but the Secret holds %s; put there what the server accepts",
			login, allowed, a.dialer.credentials.describe())
	case len(server.PartialSuccessMethods) > 0:
		return driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
			"%s accepted %s but wants more (%s), which is not supported; relax its AuthenticationMethods",
			login, a.dialer.credentials.describe(), allowed)
	}
	return driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
		"%s refused %s; check the user name and what the server accepts for it, such as its authorized_keys, or replace the Secret",
		login, a.dialer.credentials.describe())
}
