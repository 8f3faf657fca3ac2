package docker

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// hints are the words for Docker in the sentences of dialerr.Connect.
var hints = dialerr.Hints{Address: "the address", Name: "its spelling", Port: "the endpoint", Server: "the Docker engine"}

// isNetwork reports whether the network or the end of a stream caused the error, not
// its content.
func isNetwork(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func tlsError(err error, address string) *driver.Error {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch invalid := certificateError(err, address); {
	case invalid != nil:
		return invalid.Because(err)
	case noTLS:
		return driver.Errorf(driver.ProtocolError, driver.StageTLS,
			"%s does not speak TLS; start the engine with --tlsverify, or correct the port", address).Because(err)
	}
	return socketError(err, address, driver.StageTLS)
}

func certificateError(err error, address string) *driver.Error {
	host, _, _ := net.SplitHostPort(address)
	wrongName, isName := errors.AsType[x509.HostnameError](err)
	wrong, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	bad := func(format string, args ...any) *driver.Error {
		return driver.Errorf(driver.CertificateInvalid, driver.StageTLS, format, args...)
	}
	switch {
	case isName:
		names := append([]string{}, wrongName.Certificate.DNSNames...)
		for _, ip := range wrongName.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return bad("the engine's certificate is not for %s but for %s; issue one for that name, or correct the endpoint",
			host, cmp.Or(driver.Sanitize(strings.Join(names, ", ")), "no name at all"))
	case isInvalid && wrong.Reason == x509.Expired:
		return bad("the engine's certificate is valid from %s until %s only; renew it, or check the clocks",
			formatDate(wrong.Cert.NotBefore), formatDate(wrong.Cert.NotAfter))
	case isInvalid:
		return bad("the engine's certificate cannot be used (%s); issue another one", driver.Sanitize(wrong.Error()))
	case isUnknown:
		return bad("the engine's certificate was not issued by an authority in the Secret's key ca.crt; "+
			"correct that, or find out who answers at %s", address)
	}
	return nil
}

// socketError classifies why a socket failed during or right after the TLS handshake.
// With TLS 1.3 an engine refuses the client certificate only after the handshake.
func socketError(err error, address string, stage driver.Stage) *driver.Error {
	alert := ""
	if said, ok := errors.AsType[*net.OpError](err); ok && said.Op == "remote error" {
		alert = said.Err.Error()
	}
	switch {
	case strings.Contains(alert, "certificate"), strings.Contains(alert, "access denied"):
		return driver.Errorf(driver.AuthenticationFailed, driver.StageAuthentication,
			"%s refuses the Secret's certificate (%s); issue tls.crt by the authority that the engine's --tlscacert names",
			address, driver.Sanitize(strings.TrimPrefix(alert, "tls: "))).Because(err)
	case alert != "":
		return driver.Errorf(driver.ProtocolError, stage,
			"%s and the operator find no common TLS (%s); let the engine speak TLS 1.2 or later",
			address, driver.Sanitize(alert)).Because(err)
	case dialerr.IsTimeout(err):
		return driver.Errorf(driver.Timeout, stage,
			"%s did not answer in time; check that it is a Docker engine and not overloaded", address).Because(err)
	}
	return driver.Errorf(driver.Unreachable, stage,
		"%s closed the connection; look into the engine's log", address).Because(err)
}

// answerError classifies an error that is the engine's own answer, or returns nil. It
// is for requests that start nothing.
func answerError(err error, container string) *driver.Error {
	words := driver.Sanitize(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
	switch {
	case errdefs.IsNotFound(err):
		return driver.Errorf(driver.NotFound, driver.StageStart,
			"there is no container %s on this engine", container).Because(err)
	case strings.Contains(strings.ToLower(words), "multiple ids found"):
		return driver.Errorf(driver.NotFound, driver.StageStart,
			"%s is the beginning of several containers' IDs (%s); give more of the ID, or the name", container, words).Because(err)
	case isPaused(err):
		return paused(container, words).Because(err)
	case errdefs.IsConflict(err):
		return driver.Errorf(driver.NotFound, driver.StageStart,
			"the container %s does not run (%s); start it", container, words).Because(err)
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return driver.Errorf(driver.Forbidden, driver.StageStart,
			"the engine forbids this (%s); allow it in its authorization plugin, or in the proxy before its socket", words).Because(err)
	case errdefs.IsInvalidArgument(err), errdefs.IsInternal(err), errdefs.IsNotImplemented(err), errdefs.IsUnavailable(err):
		return driver.Errorf(driver.ProtocolError, driver.StageStart, "the engine refuses: %s; see its log", words).Because(err)
	}
	return nil
}

func paused(container, words string) *driver.Error {
	return driver.Errorf(driver.NotFound, driver.StageStart,
		"the container %s is paused (%s); let it go on with docker unpause", container, words)
}

// isPaused reports whether the engine refused because the container is paused.
func isPaused(err error) bool {
	return errdefs.IsConflict(err) && strings.Contains(err.Error(), "paused")
}
