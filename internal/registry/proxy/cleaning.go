package proxy

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/internal/driver"
)

type queryKey struct{}

type query struct {
	raw    string
	forced bool
}

// HideQuery returns a proxied request without its query, for the generic server. The
// query is one of another API: the generic server would refuse dryRun in it, and write
// the query to its log.
func HideQuery(req *http.Request) *http.Request {
	hidden := query{raw: req.URL.RawQuery, forced: req.URL.ForceQuery}
	req = req.WithContext(context.WithValue(req.Context(), queryKey{}, hidden))
	bare := *req.URL
	bare.RawQuery, bare.ForceQuery = "", false
	req.URL = &bare
	req.RequestURI, _, _ = strings.Cut(req.RequestURI, "?")
	return req
}

func queryOf(req *http.Request) query {
	if hidden, ok := req.Context().Value(queryKey{}).(query); ok {
		return hidden
	}
	return query{raw: req.URL.RawQuery, forced: req.URL.ForceQuery}
}

// locate splits the target off the path behind proxy and returns what is asked of it, as
// it was sent. What was authorized must be what is asked for, so a path that can be read
// in two ways is refused.
func locate(req *http.Request, path string) (location *url.URL, target string, problems field.ErrorList) {
	path = strings.TrimPrefix(path, "/")
	target, rest, _ := strings.Cut(path, "/")
	at := field.NewPath("path")
	if why := ambiguity(req.URL, path); why != "" {
		return &url.URL{}, target, field.ErrorList{field.Invalid(at, driver.Sanitize(path), why)}
	}
	if target == "" {
		return &url.URL{}, "", field.ErrorList{field.Required(at, "name a target of the pool behind proxy/")}
	}
	asked := queryOf(req)
	location = &url.URL{
		Path: "/" + rest, RawPath: escapedEnd(req.URL, strings.Count(path, "/")),
		RawQuery: asked.raw, ForceQuery: asked.forced,
	}
	return location, target, nil
}

// ambiguity returns why a path can be read in two ways; it is empty if it cannot.
func ambiguity(u *url.URL, path string) string {
	escaped := u.EscapedPath()
	segments := strings.Split(path, "/")
	switch {
	case u.IsAbs() || strings.Contains(path, "://"):
		return "must be a path, not an absolute URI"
	case slices.Contains(segments, "..") || slices.Contains(segments, "."):
		return "must not have . or .. between its slashes"
	case hasEncodedTrick(escaped):
		return "must not have encoded dots, slashes, backslashes, percent signs or NUL characters"
	case strings.ContainsAny(path, "\\\x00"):
		return "must not contain a backslash or a NUL character"
	case strings.Contains(escaped, "//"):
		return "must not have two slashes in a row"
	}
	return ""
}

func hasEncodedTrick(escaped string) bool {
	tricks := []string{"%2e", "%2f", "%5c", "%25", "%00"}
	return slices.ContainsFunc(tricks, func(trick string) bool { return strings.Contains(strings.ToLower(escaped), trick) })
}

// escapedEnd returns so many segments from the end of a path, as they were sent.
// Without encoded slashes they are as many as in the decoded path.
func escapedEnd(u *url.URL, count int) string {
	segments := strings.Split(u.EscapedPath(), "/")
	return "/" + strings.Join(segments[max(0, len(segments)-count):], "/")
}

const (
	impersonation = "Impersonate-"
	// bearerProtocol begins a WebSocket's subprotocol that is a token, with which
	// browsers authenticate to Kubernetes.
	bearerProtocol  = "base64url.bearer.authorization.k8s.io."
	protocolsHeader = "Sec-WebSocket-Protocol"
)

// identifying are the prefixes of headers that identify a client. They are for this
// server only: a target knows the credentials of its connection, and no others.
var identifying = []string{"Authorization", "Proxy-Authorization", "Cookie", "Forwarded", "X-Forwarded-", "X-Remote-", impersonation}

// hasPrefix reports whether a header is one of those with the prefix. Servers that hand
// headers to programs as variables take all signs in a name for the same one: there,
// X_Remote_User is X-Remote-User.
func hasPrefix(name, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if sign := prefix[i] == '-'; sign == isLetterOrDigit(name[i]) || !sign && name[i]|0x20 != prefix[i]|0x20 {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// Impersonations returns the headers by which a request wants to act as another user.
func Impersonations(header http.Header) (names []string) {
	for name := range header {
		if hasPrefix(name, impersonation) {
			names = append(names, name)
		}
	}
	return names
}

// forbidImpersonation refuses what would run as a user that the client did not ask for.
func forbidImpersonation(header http.Header) (problems field.ErrorList) {
	for _, name := range Impersonations(header) {
		problems = append(problems, field.Forbidden(field.NewPath("headers").Key(driver.Sanitize(name)),
			"a proxied request runs with the credentials of the target and for no other user; leave the header out"))
	}
	return problems
}

func cleanRequest(header http.Header) {
	for name := range header {
		if slices.ContainsFunc(identifying, func(prefix string) bool { return hasPrefix(name, prefix) }) {
			delete(header, name)
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

// ours is the prefix of the headers that only this server may set.
const ours = "Connpool-"

// siteHeaders are the prefixes of headers by which a server tells clients how to treat it,
// or who they are to it. Clients would apply those of a target to this server, so they
// are removed. A browser would even ask its user for the password to this server.
var siteHeaders = []string{
	ours, "Audit-Id", "Set-Cookie", "Www-Authenticate", "Alt-Svc", "Clear-Site-Data", "Strict-Transport-Security", "Public-Key-Pins",
	"Access-Control-", "Service-Worker-Allowed", "Refresh", "Report-To", "Reporting-Endpoints", "Nel", "Accept-Ch",
	"Origin-Agent-Cluster", "Content-Security-Policy",
}

// confinement keeps what a browser shows of a target from acting as a page of this server,
// with the user's rights here: no scripts, no forms, no origin, no guess at its type.
var confinement = map[string]string{"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}

func cleanAnswer(header http.Header) {
	removeSiteHeaders(header)
	for name, value := range confinement {
		header.Set(name, value)
	}
}

func removeSiteHeaders(header http.Header) {
	for name := range header {
		if slices.ContainsFunc(siteHeaders, func(prefix string) bool { return hasPrefix(name, prefix) }) {
			delete(header, name)
		}
	}
}
