package kube

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keybounds"
	"github.com/connpool/connpool/internal/kubeconfig"
)

// keyKubeconfig is the key of the Secret that this driver reads.
const keyKubeconfig = "kubeconfig"

func invalid(format string, args ...any) *driver.Error {
	return &driver.Error{
		Reason: driver.CredentialsInvalid, Stage: driver.StagePrepare,
		Message: driver.Sanitize(fmt.Sprintf(format, args...)),
	}
}

func readKubeconfig(secret map[string][]byte, contextName string, now time.Time) (*config, error) {
	text, ok := secret[keyKubeconfig]
	if !ok || len(text) == 0 {
		return nil, driver.Errorf(driver.CredentialsMissing, driver.StagePrepare,
			"the Secret holds no kubeconfig; put one with embedded credentials there")
	}
	chosen, err := kubeconfig.Read(text, contextName)
	if err != nil {
		return nil, invalid("%s", err)
	}
	if chosen.User == nil {
		return nil, invalid("the kubeconfig's context %q refers to the user %q, which it does not have; add it",
			chosen.Name, chosen.UserName)
	}
	return readConfig(chosen.Cluster, chosen.User, chosen.Namespace, now)
}

func readConfig(cluster *api.Cluster, user *api.AuthInfo, namespace string, now time.Time) (*config, error) {
	if field, advice := refusedField(cluster, user); field != "" {
		return nil, invalid("the kubeconfig's field %s is refused: %s", field, advice)
	}
	c := &config{
		serverName: cluster.TLSServerName, authority: cluster.CertificateAuthorityData,
		certificate: user.ClientCertificateData, key: user.ClientKeyData, namespace: cmp.Or(namespace, "default"),
	}
	problem := cmp.Or(c.readServer(cluster.Server), c.checkAuthority(), c.readToken(user.Token), c.readCertificate(now))
	if problem != nil {
		return nil, problem
	}
	if c.token == "" && len(c.certificate) == 0 {
		return nil, driver.Errorf(driver.CredentialsMissing, driver.StagePrepare,
			"the kubeconfig's user has no credentials; embed a token, or client-certificate-data and client-key-data")
	}
	return c, nil
}

const (
	embedInstead  = "files are not read; embed the content: kubectl config view --raw --minify --flatten"
	tokenInstead  = "embed a token or a client certificate instead"
	noImpersonate = "a target acts as itself only; use credentials that may do what is needed"
)

// refusedField names the first field that asks for what the driver never does: run a
// program, read a file, trust any server, use a proxy, or impersonate a user. A path
// with its data beside it asks for no file: the data wins, as in client-go. A tokenFile
// wins over the token.
func refusedField(cluster *api.Cluster, user *api.AuthInfo) (field, advice string) {
	for _, refused := range []struct {
		is            bool
		field, advice string
	}{
		{cluster.InsecureSkipTLSVerify, "insecure-skip-tls-verify", "the server must prove who it is; embed certificate-authority-data"},
		{cluster.CertificateAuthority != "" && len(cluster.CertificateAuthorityData) == 0, "certificate-authority", embedInstead},
		{cluster.ProxyURL != "", "proxy-url", "the cluster must be reached directly; remove it"},
		{user.Exec != nil, "exec", "programs are not run; " + tokenInstead},
		{user.AuthProvider != nil, "auth-provider", "plugins are not run; " + tokenInstead},
		{user.TokenFile != "", "tokenFile", embedInstead},
		{user.ClientCertificate != "" && len(user.ClientCertificateData) == 0, "client-certificate", embedInstead},
		{user.ClientKey != "" && len(user.ClientKeyData) == 0, "client-key", embedInstead},
		{user.Impersonate != "", "as", noImpersonate},
		{user.ImpersonateUID != "", "as-uid", noImpersonate},
		{len(user.ImpersonateGroups) > 0, "as-groups", noImpersonate},
		{len(user.ImpersonateUserExtra) > 0, "as-user-extra", noImpersonate},
		{user.Username != "", "username", "Kubernetes no longer accepts passwords; " + tokenInstead},
		{user.Password != "", "password", "Kubernetes no longer accepts passwords; " + tokenInstead},
	} {
		if refused.is {
			return refused.field, refused.advice
		}
	}
	return "", ""
}

// readServer parses the server's URL, which may have a path, such as behind a gateway
// for many clusters. Messages do not repeat it: it may hold a secret by mistake.
func (c *config) readServer(text string) *driver.Error {
	server, err := url.Parse(text)
	if err != nil || server.Scheme != "https" || server.Hostname() == "" || server.User != nil ||
		server.RawQuery != "" || server.Fragment != "" {
		return invalid("the kubeconfig's field server must be https://host:port, perhaps with a path, and nothing else; correct it")
	}
	c.host, c.path = server.Host, strings.TrimRight(server.EscapedPath(), "/")
	c.address = net.JoinHostPort(server.Hostname(), cmp.Or(server.Port(), "443"))
	c.serverName = cmp.Or(c.serverName, server.Hostname())
	if holdsDots(c.path) {
		return invalid("the path of the kubeconfig's field server has dots for a segment; write it without")
	}
	return nil
}

func (c *config) checkAuthority() *driver.Error {
	if problem := withinBounds("certificate-authority-data", c.authority); problem != nil {
		return problem
	}
	if len(c.authority) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.authority) {
		return invalid("the kubeconfig's field certificate-authority-data holds no certificate; put the base64 of a PEM file there")
	}
	return nil
}

// withinBounds refuses keys and chains that would cost too much.
func withinBounds(field string, text []byte) *driver.Error {
	switch err := keybounds.CheckPEM(text); {
	case errors.Is(err, keybounds.ErrTooLong):
		return invalid("the kubeconfig's field %s holds %s, which costs too much to use; put a shorter key there", field, err)
	case err != nil:
		return invalid("the kubeconfig's field %s holds %s; keep those that are needed", field, err)
	}
	return nil
}

// readToken drops the newline that `echo` adds.
func (c *config) readToken(text string) *driver.Error {
	c.token = strings.TrimRight(text, "\r\n")
	if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid("the kubeconfig's field token holds spaces, control characters or other text than a token; copy it again")
	}
	return nil
}

func (c *config) readCertificate(now time.Time) *driver.Error {
	switch {
	case len(c.certificate) == 0 && len(c.key) == 0:
		return nil
	case len(c.key) == 0:
		return invalid("the kubeconfig has client-certificate-data without client-key-data; add the key")
	case len(c.certificate) == 0:
		return invalid("the kubeconfig has client-key-data without client-certificate-data; add the certificate")
	}
	problem := cmp.Or(withinBounds("client-certificate-data", c.certificate), withinBounds("client-key-data", c.key))
	if problem != nil {
		return problem
	}
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return invalid("the kubeconfig's client-certificate-data and client-key-data cannot be read or do not belong together; " +
			"replace both")
	}
	c.subject, c.notBefore, c.notAfter = pair.Leaf.Subject.CommonName, pair.Leaf.NotBefore, pair.Leaf.NotAfter
	return c.checkTime(now)
}

func (c *config) checkTime(now time.Time) *driver.Error {
	switch {
	case c.notAfter.IsZero():
		return nil
	case now.After(c.notAfter):
		return invalid("the client certificate in the kubeconfig has expired; put a new one there")
	case now.Before(c.notBefore):
		return invalid("the client certificate in the kubeconfig is not valid yet; check its dates and this machine's clock")
	}
	return nil
}
