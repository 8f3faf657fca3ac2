package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// proxy hands HTTP requests to a target's own API. The way there and its
// authorization exist; no protocol of this version has such an API yet.
type proxy struct{ *Registry }

var _ rest.Connecter = (*proxy)(nil)

// New implements rest.Storage.
func (*proxy) New() runtime.Object { return &live.ProxyOptions{} }

// Destroy implements rest.Storage.
func (*proxy) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*proxy) ConnectMethods() []string {
	return []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
}

// NewConnectOptions implements rest.Connecter.
func (*proxy) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.ProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (s *proxy) Connect(ctx context.Context, pool string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	c, err := s.admit(ctx, pool, "proxy")
	if err != nil {
		return nil, err
	}
	return c.handler(responder, func(_ http.ResponseWriter, req *http.Request) error {
		return c.proxy(req, options.(*live.ProxyOptions)) //nolint:forcetypeassert // NewConnectOptions made it
	}), nil
}

// proxy refuses for now, after all that can be checked.
func (c *call) proxy(req *http.Request, options *live.ProxyOptions) error {
	target, problems := validateProxy(req, options.Path)
	c.target = target
	if len(problems) > 0 {
		return invalid(problems)
	}
	pool, err := c.poolObject(req.Context())
	if err != nil {
		return err
	}
	to, err := c.route(req.Context(), pool, field.NewPath("path"), target)
	if err != nil {
		return err
	}
	if !selects(pool, to.target) {
		return c.notInPool(req.Context(), to)
	}
	if kind := to.target.Spec.Type(); kind != v1alpha1.TargetTypeSSH {
		return refusedBeforeStart(notImplemented, "", fmt.Sprintf(
			"this version of the operator does not proxy the API of %s targets; use a version that does", kind))
	}
	return refusedBeforeStart(badRequest, "", fmt.Sprintf(
		"target %s is of type ssh, which has no HTTP API; use exec or portforward", target))
}

// validateProxy splits the target off the path. What was authorized must be what
// is asked for, so a path that somebody could read in two ways is refused.
func validateProxy(req *http.Request, path string) (target string, problems field.ErrorList) {
	at := field.NewPath("path")
	target, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	segments := append([]string{target}, strings.Split(rest, "/")...)
	switch {
	case req.URL.IsAbs() || strings.Contains(path, "://"):
		problems = append(problems, field.Invalid(at, plain(path), "must be a path, not an absolute URI"))
	case target == "":
		problems = append(problems, field.Required(at, "name a target of the pool behind proxy/"))
	case slices.Contains(segments, "..") || slices.Contains(segments, "."):
		problems = append(problems, field.Invalid(at, plain(path), "must not have . or .. between its slashes"))
	case hasEncodedTrick(req.URL.EscapedPath()):
		problems = append(problems, field.Invalid(at, plain(path), "must not have encoded dots or slashes"))
	case strings.ContainsAny(path, "\\\x00"):
		problems = append(problems, field.Invalid(at, plain(path), "must not hold a backslash or a NUL character"))
	}
	return target, problems
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
