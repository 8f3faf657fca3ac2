package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// maxRetryAfter bounds how long a server may make the operator wait.
const maxRetryAfter = 5 * time.Minute

// hints are the words for Kubernetes in the sentences of dialerr.Connect.
var hints = dialerr.Hints{
	Address: "the kubeconfig's server", Name: "the kubeconfig's server", Port: "the kubeconfig's server", Server: "the API server",
}

func tlsError(err error, address string) *driver.Error {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		expired  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		plain    tls.RecordHeaderError
		alert    tls.AlertError
	)
	result := driver.Errorf(driver.CertificateInvalid, driver.StageTLS, "")
	switch {
	case errors.As(err, &unknown):
		result.Message = address + " shows a certificate of an unknown authority; correct certificate-authority-data in the kubeconfig"
	case errors.As(err, &hostname):
		result.Message = address + " shows a certificate for another name; correct server or tls-server-name in the kubeconfig"
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		result.Message = address + " shows a certificate that has expired or is not valid yet; renew it, and check this machine's clock"
	case errors.As(err, &verify), errors.As(err, &expired):
		result.Message = driver.Sanitize(address + " shows a certificate that cannot be trusted; replace it: " + err.Error())
	case errors.As(err, &plain):
		result.Reason, result.Message = driver.ProtocolError, address+" does not speak TLS; check the port of the kubeconfig's server"
	case errors.As(err, &alert):
		result.Reason = driver.AuthenticationFailed
		result.Message = driver.Sanitize(address + " refused the handshake (" + alert.Error() +
			"); replace the kubeconfig's client certificate")
	default:
		return transportError(err, driver.StageTLS, address)
	}
	result.Err = err
	return result
}

// lostByPing is what the library calls a connection on which no PING was answered. It
// exports no error for it.
const lostByPing = "http2: client connection lost"

// transportError classifies why no answer came. The result belongs to the caller.
func transportError(err error, stage driver.Stage, address string) *driver.Error {
	if classified, ok := driver.Classified(err); ok {
		return classified
	}
	result := driver.Errorf(driver.ProtocolError, stage, "%s",
		driver.Sanitize(address+" does not answer as an API server does; check the kubeconfig's server: "+err.Error()))
	_, isOperation := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.Canceled):
		result = driver.Errorf(driver.Timeout, stage, "the caller gave up")
	case dialerr.IsTimeout(err), strings.Contains(err.Error(), lostByPing):
		result = driver.Errorf(driver.Timeout, stage, "%s did not answer in time; check that it is not overloaded", address)
	case isOperation, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		result = driver.Errorf(driver.Unreachable, stage,
			"%s closed the connection; check that the API server runs, and see its log", address)
	}
	result.Err = err
	return result
}

// answerError classifies an answer that is not a success, or returns nil.
func (c *config) answerError(a *answer, stage driver.Stage) *driver.Error {
	if a.status >= 200 && a.status < 300 {
		return nil
	}
	said := messageOf(a)
	result := driver.Errorf(driver.ProtocolError, stage, "%s",
		driver.Sanitize(fmt.Sprintf("%s does not answer as an API server does (status %d); check the kubeconfig's server: %s",
			c.address, a.status, said)))
	switch {
	case a.status == http.StatusUnauthorized:
		result = driver.Errorf(driver.AuthenticationFailed, stage,
			"%s does not accept %s; replace it in the Secret", c.address, c.describe())
	case a.status == http.StatusForbidden:
		result = driver.Errorf(driver.Forbidden, stage, "%s",
			driver.Sanitize("the cluster forbids it; allow it by RBAC there: "+said))
	case a.status == http.StatusTooManyRequests:
		result = driver.Errorf(driver.ThrottledByServer, stage,
			"%s does not accept more requests now; send it fewer requests, or raise its limits (API priority and fairness)", c.address)
		result.RetryAfter = retryAfter(a.header)
	case a.status >= http.StatusInternalServerError:
		result = driver.Errorf(driver.Unreachable, stage, "%s",
			driver.Sanitize(fmt.Sprintf("%s is not ready (status %d); see the API server's log: %s", c.address, a.status, said)))
		result.RetryAfter = retryAfter(a.header)
	}
	return result
}

func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// cutStatus matches the beginning of the API's own answers, for one that was cut off.
var cutStatus = regexp.MustCompile(`^\{"kind":"Status",.*?"message":"((?:[^"\\]|\\.)*)`)

// status returns the API's own answer, or nil if a gateway gave it.
func status(body []byte) *metav1.Status {
	said := &metav1.Status{}
	if json.Unmarshal(body, said) == nil && said.Kind == "Status" {
		return said
	}
	if cut := cutStatus.FindSubmatch(body); cut != nil {
		return &metav1.Status{Message: strings.ReplaceAll(string(cut[1]), `\"`, `"`)}
	}
	return nil
}

// maxQuotedBytes bounds what a message quotes of an answer that is not the API's own.
const maxQuotedBytes = 100

func messageOf(a *answer) string {
	if said := status(a.body); said != nil && said.Message != "" {
		return said.Message
	}
	return string(a.body[:min(len(a.body), maxQuotedBytes)])
}
