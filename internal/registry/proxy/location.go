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

// queryKey is where a hidden query is in the context of its request.
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

// locate splits the target off the path behind proxy and returns what is asked of
// it, as it was sent: nothing is decoded, cleaned or put in order. What was
// authorized must be what is asked for, so a path that can be read in two ways is
// refused.
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
		return "must not hold a backslash or a NUL character"
	case strings.Contains(escaped, "//"):
		return "must not have two slashes in a row"
	}
	return ""
}

func hasEncodedTrick(escaped string) bool {
	escaped = strings.ToLower(escaped)
	for _, trick := range []string{"%2e", "%2f", "%5c", "%25", "%00"} {
		if strings.Contains(escaped, trick) {
			return true
		}
	}
	return false
}

// escapedEnd returns so many segments from the end of a path, as they were sent.
// Without encoded slashes they are as many as in the decoded path.
func escapedEnd(u *url.URL, count int) string {
	segments := strings.Split(u.EscapedPath(), "/")
	return "/" + strings.Join(segments[max(0, len(segments)-count):], "/")
}
