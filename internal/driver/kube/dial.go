package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const userAgent = "connpool"

// Dial implements driver.Dialer.
func (d *dialer) Dial(ctx context.Context) (driver.Conn, error) {
	begin := time.Now()
	if err := d.config.checkTime(begin); err != nil {
		return nil, err
	}
	made, err := d.driver.acquire(d)
	if err != nil {
		return nil, err
	}
	shared := made.client
	socket, version, err := d.prove(ctx, shared)
	if err != nil {
		_ = made.Close()
		return nil, err
	}
	made.info = driver.Info{
		ServerVersion: version, RemoteAddress: socket.RemoteAddr().String(), Handshake: time.Since(begin),
	}
	if socket.idle() {
		shared.spares.Put(socket)
	} else {
		go socket.Close() //nolint:errcheck // TLS close_notify may take long
	}
	shared.accepted.Store(true)
	shared.spares.Replenish()
	return made, nil
}

// prove opens a socket, checks on it that the server accepts the credentials, and
// asks over the shared transport for the server's version.
func (d *dialer) prove(ctx context.Context, shared *client) (*socket, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(shared.ctx, cancel)() //nolint:contextcheck // whichever ends first
	opened, err := shared.network.open(ctx, d.endpoint.Dial)
	if err != nil {
		return nil, "", d.gaveUp(ctx, shared, err)
	}
	d.endpoint.Passed(driver.StageTLS, describeTLS(opened.ConnectionState()))
	version, problem := d.introduce(ctx, shared, opened)
	if problem != nil {
		_ = opened.Close()
		return nil, "", d.gaveUp(ctx, shared, problem)
	}
	return opened, version, nil
}

// gaveUp returns why the shared client ended if that is what made a dial fail, or
// else the error.
func (d *dialer) gaveUp(ctx context.Context, shared *client, err error) error {
	if ctx.Err() != nil && shared.ctx.Err() != nil {
		return shared.death(driver.StageSession, false)
	}
	return err
}

func (d *dialer) introduce(ctx context.Context, shared *client, opened *socket) (string, *driver.Error) {
	asking, cancel := context.WithTimeout(ctx, d.driver.options.StageTimeout)
	defer cancel()
	ready, err := shared.ready(asking, opened, driver.StageAuthentication)
	if err == nil {
		err = shared.config.answerError(ready, driver.StageAuthentication)
	}
	if err != nil {
		return "", err
	}
	d.endpoint.Passed(driver.StageAuthentication, "the server knows "+d.config.describe()+" and is ready")
	asking, cancel = context.WithTimeout(ctx, d.driver.options.StageTimeout)
	defer cancel()
	version, err := shared.ask(asking, shared.transport, versionPath, driver.StageSession)
	if err != nil {
		return "", err
	}
	name := nameVersion(version)
	d.endpoint.Passed(driver.StageSession, name)
	return name, nil
}

// describeTLS names the TLS version and the server's certificate, for a trace.
func describeTLS(state tls.ConnectionState) string {
	leaf := state.PeerCertificates[0]
	name := leaf.Subject.CommonName
	if name == "" && len(leaf.DNSNames) > 0 {
		name = leaf.DNSNames[0]
	}
	return tls.VersionName(state.Version) + "; the server's certificate is for " + name + ", issued by " + leaf.Issuer.CommonName
}

// nameVersion returns what the server calls itself. A server may hide its version.
func nameVersion(version *answer) string {
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	if version.status != http.StatusOK || json.Unmarshal(version.body, &info) != nil {
		return "Kubernetes"
	}
	return driver.Sanitize("Kubernetes " + info.GitVersion)
}
