package ssh

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
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
		a.fail(driver.Errorf(driver.Timeout, a.currentStage(), "the caller stopped waiting").Because(ctx.Err()))
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
	offered   bool   // credentials have been offered
	refusal   error  // why the server refused the login
	banner    int    // bytes of authentication banners
	said      string // the last line of them that has words

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
	a.conn.attempt.Store(a)
	a.timer = time.AfterFunc(a.limit(), a.timeout)
	return a
}

// limit is how long the current stage may take.
func (a *attempt) limit() time.Duration {
	own := a.dialer.endpoint.LoginTimeout
	if own > 0 && (a.stage == driver.StageBanner || a.stage == driver.StageAuthentication) {
		return own
	}
	return a.dialer.options.StageTimeout
}

func (a *attempt) run(begin time.Time) (driver.Conn, error) {
	client, channels, requests, err := ssh.NewClientConn(a.transport, a.dialer.endpoint.Address, a.config())
	if err != nil {
		return nil, a.explain(err)
	}
	a.enter(driver.StageSession, a.login())
	a.conn.client = client
	a.conn.attendant.start(channels, requests)
	opened := "no session is needed, because it only forwards"
	if !a.dialer.endpoint.ForwardOnly {
		opened = "session opened; whether a command runs in it, only a command shows"
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
	a.conn.attempt.Store(nil)
	a.conn.monitor.Start()
	return a.conn, nil
}

func (a *attempt) login() string {
	if !a.offered {
		return a.dialer.endpoint.User + " logged in without credentials; the server asked for none"
	}
	return a.dialer.endpoint.User + " logged in with " + a.dialer.credentials.describe()
}

// algorithms are those that the library supports and that are secure.
var algorithms = sync.OnceValue(func() ssh.Config {
	supported := ssh.SupportedAlgorithms()
	return ssh.Config{
		KeyExchanges: supported.KeyExchanges,
		Ciphers:      supported.Ciphers,
		MACs: slices.DeleteFunc(supported.MACs, func(mac string) bool {
			return strings.Contains(mac, "sha1")
		}),
	}
})

// config is kept by the library as long as the connection lives, so its functions lead to
// the attempt by way of the connection, which forgets it.
func (a *attempt) config() *ssh.ClientConfig {
	c := a.conn
	return &ssh.ClientConfig{
		Config:            algorithms(),
		User:              a.dialer.endpoint.User,
		ClientVersion:     "SSH-2.0-connpool",
		HostKeyAlgorithms: a.dialer.pins.Algorithms(),
		HostKeyCallback:   c.checkHostKey,
		BannerCallback:    func(message string) error { return c.attempt.Load().readBanner(message) },
		AuthCallback: func(server *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			return c.attempt.Load().authenticate(server)
		},
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
	a.timer.Reset(a.limit())
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
	a.mu.Lock()
	stage, limit := a.stage, a.limit()
	a.mu.Unlock()
	next := "check that it is an SSH server and not overloaded"
	if stage == driver.StageBanner || stage == driver.StageAuthentication {
		next += "; if its logins are slow, raise ssh.loginTimeoutSeconds of the target"
	}
	a.fail(driver.Errorf(driver.Timeout, stage, "%s did not answer within %s, which is connpool's limit; %s",
		a.dialer.endpoint.Address, limit, next))
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
	failure := a.finish()
	switch {
	case failure != nil:
	case a.refusal != nil:
		failure = a.explainRefusal(err)
	case a.offered && strings.Contains(strings.ToLower(disconnectWords(err)), "too many authentication failures"):
		failure = a.refusedCredentials() // by a server that allows one attempt
	case strings.HasPrefix(string(a.greeting.line), "SSH-1.") && !strings.HasPrefix(string(a.greeting.line), "SSH-1.99"):
		failure = driver.Errorf(driver.ProtocolError, driver.StageBanner,
			"%s speaks version 1 of SSH only, which is not secure; update the server", a.dialer.endpoint.Address).Because(err)
	case a.stage == driver.StageBanner:
		failure = bannerError(err, a.greeting.text(), a.dialer.endpoint.Address)
	default:
		failure = handshakeError(err, a.stage, a.dialer.endpoint.Address)
	}
	return a.quote(failure)
}

// explainRefusal returns why no login succeeded. The library's error tells whether the
// key was offered at all.
func (a *attempt) explainRefusal(err error) error {
	if !strings.Contains(err.Error(), "no common public key signature algorithm") {
		return a.refusal
	}
	return driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
		"%s takes signatures of RSA keys with SHA-1 only, which is not secure, so %s was not offered; "+
			"use an ed25519 key, or update the server",
		a.dialer.endpoint.User+"@"+a.dialer.endpoint.Address, a.dialer.credentials.describe())
}

// quote adds what the server said before it refused the login: that is where it says
// why. The server has proved its identity by then.
func (a *attempt) quote(err error) error {
	failure, ok := driver.Classified(err)
	said := cmp.Or(a.said, driver.Sanitize(string(a.greeting.said)))
	if !ok || failure.Stage != driver.StageAuthentication || said == "" {
		return err
	}
	failure.Message += ". The server said: " + said
	return failure
}

func (a *attempt) checkHostKey(address string, key ssh.PublicKey) error {
	a.enter(driver.StageHostKey, "the server has proved that it owns the key it shows")
	if err := a.dialer.pins.Check(address, key); err != nil {
		a.fail(err)
		return err
	}
	a.enter(driver.StageAuthentication, "the server showed "+knownhosts.Describe(key)+", which hostKeys pin")
	return nil
}

func (a *attempt) readBanner(message string) error {
	for line := range strings.Lines(message) {
		if strings.ContainsFunc(line, unicode.IsLetter) { // not a frame around the words
			a.said = driver.Sanitize(line)
		}
	}
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
	a.refusal = a.refusedLogin(server)
	return nil, nil //nolint:nilnil // there is none, and the library says why
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
	return a.refusedCredentials()
}

func (a *attempt) refusedCredentials() error {
	login := a.dialer.endpoint.User + "@" + a.dialer.endpoint.Address
	refusal := driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
		"%s refused %s; check the user name, its authorized_keys and shell, and AllowUsers and DenyUsers of the server, "+
			"or replace the Secret%s",
		login, a.dialer.credentials.describe(), a.dialer.credentials.suspect(a.dialer.endpoint.User))
	refusal.MayCureSoon = a.dialer.credentials.signer != nil
	return refusal
}
