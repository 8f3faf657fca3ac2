package docker

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/docker/docker/api"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

const (
	// maxHeader bounds the head of an answer.
	maxHeader = 64 << 10
	// maxAnswer bounds the body of an answer that this driver reads itself. Many commands
	// may wait for one at the same time.
	maxAnswer = 64 << 10
	// minVersion is the first API version in which a command has an environment.
	minVersion = "1.25"
	// host is the host name in requests. It is never resolved.
	host = "docker"
)

var plainVersion = regexp.MustCompile(`^[0-9]{1,4}\.[0-9]{1,4}$`)

// Dial implements driver.Dialer.
func (d *dialer) Dial(ctx context.Context) (driver.Conn, error) {
	if d.credentials != nil {
		if err := d.credentials.check(time.Now()); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	c := newConn(d)
	if err := c.handshake(ctx); err != nil {
		_ = c.Close() //nolint:contextcheck // the connection has a life of its own
		if ctx.Err() != nil {
			return nil, driver.Errorf(driver.Timeout, err.Stage, "the caller stopped waiting").Because(ctx.Err())
		}
		return nil, err
	}
	c.info.Handshake = time.Since(begin)
	c.sockets.ahead.Replenish()
	c.monitor.Start()
	return c, nil
}

func (c *conn) handshake(ctx context.Context) *driver.Error {
	s, err := c.sockets.dial(ctx, c.endpoint.Dial)
	if err != nil {
		return driver.AsError(err)
	}
	c.dialer.traceTLS(s)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := c.greet(s); err != nil {
		return err
	}
	if !stop() {
		return driver.Errorf(driver.Timeout, driver.StageSession, "the caller stopped waiting")
	}
	c.endpoint.Passed(driver.StageSession, c.info.ServerVersion+" answers")
	c.info.RemoteAddress = s.RemoteAddr().String()
	c.sockets.ahead.Put(s)
	return nil
}

func (d *dialer) traceTLS(s *socket) {
	if encrypted, ok := s.Conn.(*tls.Conn); ok {
		state := encrypted.ConnectionState()
		leaf := state.PeerCertificates[0]
		d.endpoint.Passed(driver.StageTLS, fmt.Sprintf("%s; the engine showed the certificate of %q, valid until %s",
			tls.VersionName(state.Version), leaf.Subject.CommonName, formatDate(leaf.NotAfter)))
	}
}

// greet sends the first request. It does not use net/http, because an engine that
// refuses the client certificate says so while the request is written, and net/http
// would not read that.
func (c *conn) greet(s *socket) *driver.Error {
	stage := driver.StageSession
	if c.dialer.credentials != nil {
		stage = driver.StageAuthentication
	}
	defer s.stageDeadline(c.options)()
	begin := time.Now()
	response, err := roundTrip(s, pingRequest(c.ctx, "")) //nolint:bodyclose // it is in memory
	if err != nil {
		return greetingError(err, c.endpoint.Address, stage)
	}
	c.monitor.Measured(time.Since(begin))
	if c.dialer.credentials != nil {
		c.endpoint.Passed(driver.StageAuthentication, "the engine accepted "+c.dialer.credentials.describe())
	}
	if err := c.introduce(response); err != nil {
		return err
	}
	return c.checkVersion(s)
}

func greetingError(err error, address string, stage driver.Stage) *driver.Error {
	if isNetwork(err) {
		return socketError(err, address, stage)
	}
	return driver.Errorf(driver.ProtocolError, stage,
		"%s does not answer as a Docker engine; check the endpoint", address).Because(err)
}

// roundTrip sends a request and reads the whole answer, so that the socket can be used
// again.
func roundTrip(s *socket, request *http.Request) (*http.Response, error) {
	written := request.Write(s)
	response, reader, err := readAnswer(s, request)
	if err != nil {
		if written != nil && dialerr.IsTimeout(err) {
			err = written
		}
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	if len(body) == maxAnswer || reader.Buffered() > 0 || response.Close {
		return response, errors.New("the answer does not end")
	}
	return response, nil
}

// readAnswer reads the head of an answer, which is bounded. What follows is not.
func readAnswer(s *socket, request *http.Request) (*http.Response, *bufio.Reader, error) {
	bounded := &io.LimitedReader{R: s, N: maxHeader}
	reader := bufio.NewReader(bounded)
	response, err := http.ReadResponse(reader, request)
	if err != nil && bounded.N <= 0 {
		err = errors.New("the head of the answer is larger than 64 KiB")
	}
	bounded.N = math.MaxInt64
	return response, reader, err
}

func (c *conn) introduce(response *http.Response) *driver.Error {
	version := driver.Sanitize(response.Header.Get("Api-Version"))
	switch {
	case response.StatusCode == http.StatusForbidden, response.StatusCode == http.StatusUnauthorized:
		return driver.Errorf(driver.Forbidden, driver.StageSession,
			"the engine forbids /_ping; allow it in its authorization plugin, or in the proxy before its socket")
	case response.StatusCode != http.StatusOK:
		return driver.Errorf(driver.ProtocolError, driver.StageSession,
			"%s answers /_ping with %s; check that it is a Docker engine, and see its log",
			c.endpoint.Address, driver.Sanitize(response.Status))
	case !plainVersion.MatchString(version):
		return driver.Errorf(driver.ProtocolError, driver.StageSession,
			"%s does not say its API version; check that it is a Docker engine of version 1.13 or later", c.endpoint.Address)
	case versions.LessThan(version, minVersion):
		return driver.Errorf(driver.ProtocolError, driver.StageSession,
			"the engine's API is at most %s, and commands need %s; update it to Docker 1.13 or later", version, minVersion)
	}
	c.version = version
	c.info.ServerVersion = describe(response.Header.Get("Server"), version)
	var err *driver.Error
	c.client, err = newClient(c.transport, version)
	return err
}

// checkVersion asks an engine that is newer than this driver whether it takes requests of
// the driver's version. Without that it would refuse every command.
func (c *conn) checkVersion(s *socket) *driver.Error {
	if !versions.GreaterThan(c.version, api.DefaultVersion) {
		return nil
	}
	response, err := roundTrip(s, pingRequest(c.ctx, "/v"+c.client.ClientVersion())) //nolint:bodyclose // it is in memory
	if err != nil {
		return greetingError(err, c.endpoint.Address, driver.StageSession)
	}
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var said struct {
		Message string `json:"message"`
	}
	_ = json.NewDecoder(response.Body).Decode(&said) // or there are no words
	return driver.Errorf(driver.ProtocolError, driver.StageSession,
		"the engine's API is %s, and it does not take the operator's, which is at most %s (%s); "+
			"update the operator, or lower the engine's minimum",
		c.version, api.DefaultVersion, cmp.Or(driver.Sanitize(said.Message), driver.Sanitize(response.Status)))
}

// describe names the engine by a header such as "Docker/20.10.24 (linux)".
func describe(server, version string) string {
	name, number, found := strings.Cut(strings.TrimSuffix(server, " (linux)"), "/")
	if !found {
		name, number = "Docker", ""
	}
	return driver.Sanitize(strings.Join(strings.Fields(name+" "+number+" (API "+version+")"), " "))
}

func newClient(transport http.RoundTripper, version string) (*client.Client, *driver.Error) {
	made, err := client.NewClientWithOpts(
		client.WithHost("http://"+host),
		client.WithHTTPClient(&http.Client{Transport: bounded{transport, maxAnswer}, CheckRedirect: client.CheckRedirect}),
	)
	if err != nil {
		return nil, driver.Errorf(driver.ProtocolError, driver.StageSession,
			"no client could be made: %s", driver.Sanitize(err.Error())).Because(err)
	}
	made.NegotiateAPIVersionPing(types.Ping{APIVersion: version})
	return made, nil
}

// bounded is a transport that bounds its answers, because the Docker client does not.
type bounded struct {
	http.RoundTripper

	limit int64 // of a body, in bytes
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, b.limit), response.Body}
	}
	return response, err
}
