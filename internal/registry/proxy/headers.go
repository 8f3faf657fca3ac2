package proxy

import (
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/internal/driver"
)

const (
	impersonation = "Impersonate-"
	// bearerProtocol begins a WebSocket's subprotocol that is a token, with which
	// browsers authenticate to Kubernetes.
	bearerProtocol  = "base64url.bearer.authorization.k8s.io."
	protocolsHeader = "Sec-WebSocket-Protocol"
)

// identifying are the prefixes of headers that identify a client. They are for this
// server only: a target knows the credentials of its connection, and no others.
var identifying = []string{"Authorization", "Cookie", "Forwarded", "X-Forwarded-", "X-Remote-", impersonation}

// Impersonations returns the headers by which a request wants to act as another user.
func Impersonations(header http.Header) (names []string) {
	for name := range header {
		if strings.HasPrefix(name, impersonation) {
			names = append(names, name)
		}
	}
	return names
}

// forbidImpersonation refuses a request that wants to be another user's at the
// target. Without these headers it would run as a user that the client did not ask for.
func forbidImpersonation(header http.Header) (problems field.ErrorList) {
	for _, name := range Impersonations(header) {
		problems = append(problems, field.Forbidden(field.NewPath("headers").Key(driver.Sanitize(name)),
			"a proxied request runs with the credentials of the target, as nobody else; leave the header out"))
	}
	return problems
}

// cleanRequest removes from a request what is not for the target.
func cleanRequest(header http.Header) {
	for name := range header {
		if slices.ContainsFunc(identifying, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			header.Del(name)
		}
	}
	var protocols []string
	for protocol := range strings.SplitSeq(strings.Join(header.Values(protocolsHeader), ","), ",") {
		if protocol = strings.TrimSpace(protocol); protocol != "" && !strings.HasPrefix(protocol, bearerProtocol) {
			protocols = append(protocols, protocol)
		}
	}
	header.Del(protocolsHeader)
	if len(protocols) > 0 {
		header.Set(protocolsHeader, strings.Join(protocols, ", "))
	}
}

// ours is the prefix of the headers that this server sets: a target does not know what
// they say.
const ours = "Connpool-"

// siteHeaders are headers by which a server tells clients how to treat it. Clients
// would apply those of a target to this server, so they are removed.
var siteHeaders = []string{
	"Audit-Id",
	"Set-Cookie", "Alt-Svc", "Clear-Site-Data", "Strict-Transport-Security",
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
}

// cleanAnswer removes from an answer what is not for the client.
func cleanAnswer(header http.Header) {
	for name := range header {
		if strings.HasPrefix(name, ours) || slices.Contains(siteHeaders, name) {
			header.Del(name)
		}
	}
}
