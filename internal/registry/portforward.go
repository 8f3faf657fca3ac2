package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/stream"
)

// portForward forwards ports and unix sockets that are reached from a target.
type portForward struct{ *Registry }

var _ rest.Connecter = (*portForward)(nil)

// New implements rest.Storage.
func (*portForward) New() runtime.Object { return &live.PortForwardOptions{} }

// Destroy implements rest.Storage.
func (*portForward) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (*portForward) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions implements rest.Connecter.
func (*portForward) NewConnectOptions() (options runtime.Object, subpath bool, subpathKey string) {
	return &live.PortForwardOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (s *portForward) Connect(ctx context.Context, pool string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	c, err := s.admit(ctx, pool, "portforward")
	if err != nil {
		return nil, err
	}
	return c.handler(responder, func(w http.ResponseWriter, req *http.Request) error {
		if !stream.IsUpgrade(req) {
			return refusedBeforeStart(badRequest, "", "a port-forward needs an upgrade to SPDY, or to SPDY in a WebSocket")
		}
		return c.forward(w, req, options.(*live.PortForwardOptions)) //nolint:forcetypeassert // NewConnectOptions made it
	}), nil
}

// forward leases one connection for as long as the client forwards ports.
func (c *call) forward(w http.ResponseWriter, req *http.Request, options *live.PortForwardOptions) error {
	ctx := req.Context()
	c.target, c.place = options.Target, driver.Place{Pod: options.Pod, Namespace: options.Namespace}
	if problems := validateForward(options); len(problems) > 0 {
		return invalid(problems)
	}
	pool, err := c.poolObject(ctx)
	if err != nil {
		return err
	}
	to, err := c.route(ctx, pool, field.NewPath("target"), options.Target)
	if err != nil {
		return err
	}
	lease, err := c.acquireFit(ctx, to, fitForward(options))
	if err != nil {
		return err
	}
	defer lease.Release()
	dial := c.dialer(lease.Conn(), options)
	if dial == nil {
		return refusedBeforeStart(badRequest, "", fmt.Sprintf(
			"target %s forwards no ports; choose one of type ssh or kubernetes", lease.Target.Name))
	}
	h := c.holding(string(pool.UID), lease)
	h.announce(w.Header(), c.requestID)
	c.serveForward(w, req, lease, h, dial)
	return nil
}

// dialer connects to what the options name; nil when the connection cannot.
func (c *call) dialer(conn driver.Conn, options *live.PortForwardOptions) stream.DialFunc {
	if c.place.Pod != "" {
		if pods, ok := conn.(driver.PodForwarder); ok {
			return func(ctx context.Context, port uint16) (net.Conn, error) { return dialPod(ctx, pods, c.place, port) }
		}
		return nil
	}
	if forwarder, ok := conn.(driver.Forwarder); ok {
		return func(ctx context.Context, port uint16) (net.Conn, error) {
			return dialFrom(ctx, forwarder, options, port)
		}
	}
	return nil
}

// serveForward forwards until the client, the connection or the permission ends.
func (c *call) serveForward(w http.ResponseWriter, req *http.Request, lease poolset.Lease, h held, dial stream.DialFunc) {
	ctx, stop := c.watch(req.Context(), c.permission)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(context.Canceled)
	defer endWith(lease.Conn(), end)() //nolint:contextcheck // the context of the connection is the news
	c.auditStarted(h, nil)
	var bytes traffic
	began := time.Now()
	all := &forwards{begin: func() (func(), error) { return c.uses.begin(c.userName(), c.pool) }}
	stream.ServePortForward(w, req.WithContext(ctx), all.counting(dial, &bytes))
	ended := ending{held: h, requestID: c.requestID, duration: time.Since(began)}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		ended.reason, ended.message = because(ctx, cause)
	}
	c.auditEnded(ended, &bytes)
}

// endWith ends a forward when its connection ends, and says why that did.
func endWith(conn driver.Conn, end context.CancelCauseFunc) (stop func() bool) {
	return context.AfterFunc(conn.Context(), func() {
		cause := context.Cause(conn.Context())
		if errors.Is(cause, context.Canceled) {
			cause = &driver.Error{
				Reason: driver.Unreachable, Stage: driver.StageRun, Started: true,
				Message: "the connection was closed, because its pool or target was changed or deleted",
			}
		}
		end(cause)
	})
}

// dialFrom connects from the target's side to what the options name. Its errors
// are read by the client of the forward.
func dialFrom(ctx context.Context, from driver.Forwarder, options *live.PortForwardOptions, port uint16) (net.Conn, error) {
	network, address := "unix", options.Socket
	if address == "" {
		if port == 0 {
			return nil, errNoPort
		}
		network, address = "tcp", net.JoinHostPort(hostOr(options.Host, "localhost"), strconv.Itoa(int(port)))
	}
	far, err := from.Forward(ctx, network, address)
	if err != nil {
		classified := driver.AsError(err)
		return nil, fmt.Errorf("%s cannot be reached from the target: %s", address, classified.Error())
	}
	return far, nil
}

// dialPod connects to a port of a pod.
func dialPod(ctx context.Context, from driver.PodForwarder, pod driver.Place, port uint16) (net.Conn, error) {
	if port == 0 {
		return nil, errNoPort
	}
	far, err := from.ForwardPod(ctx, pod, port)
	if err != nil {
		classified := driver.AsError(err)
		return nil, fmt.Errorf("port %d of pod %s cannot be reached: %s", port, pod.Pod, classified.Error())
	}
	return far, nil
}

var errNoPort = errors.New("port 0 is no port to forward to; choose one from 1 to 65535")

func hostOr(host, otherwise string) string {
	if host == "" {
		return otherwise
	}
	return strings.Trim(host, "[]")
}
