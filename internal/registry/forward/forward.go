// Package forward is the port-forward of the live API: ports and unix sockets that
// are reached from a target, or ports of pods, over one leased connection.
//
//	storage["connectionpools/portforward"] = forward.New(gate)
//
// A request is a use like any other. The connections through it have limits of their
// own, because each can hold megabytes.
//
// Trade-offs: a forward ends with its connection. It is not moved to another one,
// because the connections through it could not be moved either.
package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
	"github.com/connpool/connpool/internal/stream"
)

// socketforward is the subresource that permits to forward unix sockets, beside
// portforward. No request is about it. A socket is not the network: that of a Docker
// engine is root on its host.
const socketforward = "socketforward"

// New returns the REST storage of the subresource portforward.
func New(gate *use.Gate) *use.Subresource[*live.PortForwardOptions] {
	return &use.Subresource[*live.PortForwardOptions]{
		Object: &live.PortForwardOptions{}, Options: &live.PortForwardOptions{},
		Methods: []string{http.MethodGet, http.MethodPost},
		Describe: func(u *use.Use, _ *http.Request, options *live.PortForwardOptions) {
			u.Target, u.Place, u.Host, u.Socket = options.Target, placeOf(options), hostOf(options), options.Socket
		},
		Admit: func(ctx context.Context, pool string) (*use.Use, use.ServeFunc[*live.PortForwardOptions], error) {
			u, err := gate.Admit(ctx, pool, "portforward")
			return u, serve, err
		},
	}
}

// serve leases one connection for as long as the client forwards ports.
func serve(w http.ResponseWriter, req *http.Request, u *use.Use, options *live.PortForwardOptions, _ rest.Responder) error {
	if !stream.IsUpgrade(req) {
		return refusal.NotStarted(refusal.BadRequest, "", "a port-forward needs an upgrade to SPDY, or to SPDY in a WebSocket")
	}
	if problems := validateOptions(options); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	if options.Socket != "" {
		if err := u.Require(req.Context(), "connectionpools", u.PoolName.Name, socketforward); err != nil {
			return err
		}
	}
	route, err := u.Route(req.Context(), field.NewPath("target"), options.Target)
	if err != nil {
		return err
	}
	lease, err := u.Lease(req.Context(), route, fits(options))
	if err != nil {
		return err
	}
	defer lease.Release()
	port, err := podPort(req.Context(), lease.Conn(), options)
	if err != nil {
		return err
	}
	dial := dialer(lease.Conn(), options)
	if dial == nil {
		return refusal.NotStarted(refusal.BadRequest, "", fmt.Sprintf(
			"target %s cannot forward ports; choose one of type ssh or kubernetes", lease.Target.Name))
	}
	info := route.LeaseInfo(lease)
	info.Announce(w.Header(), u.RequestID)
	forward(w, req, u, lease.Conn(), info, toPort(port, audited(dial, u)))
	return nil
}

// podPort looks a pod up, so that one that is absent is refused before anything is
// forwarded, and returns the number of its port. That is 0 if the streams name the port.
func podPort(ctx context.Context, conn driver.Conn, options *live.PortForwardOptions) (uint16, error) {
	pods, ok := conn.(driver.PodForwarder)
	if !ok || options.Pod == "" {
		return 0, nil
	}
	port, err := pods.PodPort(ctx, placeOf(options), options.Port)
	if err != nil {
		failed, with := driver.AsError(err), refusal.Unavailable
		if failed.Reason == driver.NotFound || failed.Reason == driver.Forbidden {
			with = refusal.BadRequest // to try again does not help
		}
		return 0, refusal.NotStarted(with, string(failed.Reason), failed.Message)
	}
	return port, nil
}

// toPort returns dial for a port, whatever the streams name, or dial itself if it is 0.
func toPort(port uint16, dial stream.DialFunc) stream.DialFunc {
	if port == 0 {
		return dial
	}
	return func(ctx context.Context, _ uint16) (net.Conn, error) { return dial(ctx, port) }
}

// hostOf returns the host to which the options lead; it is empty if that is no host.
func hostOf(options *live.PortForwardOptions) string {
	if options.Socket != "" || options.Pod != "" {
		return options.Host
	}
	return cmp.Or(options.Host, "localhost")
}

// audited returns dial with an audit line about each connection that it has made or
// could not make. The client chooses the ports one by one, after the use has started.
func audited(dial stream.DialFunc, u *use.Use) stream.DialFunc {
	return func(ctx context.Context, port uint16) (net.Conn, error) {
		far, err := dial(ctx, port)
		var facts []any
		if u.Socket == "" { // the port of a socket means nothing
			facts = append(facts, "port", port)
		}
		if err != nil {
			facts = append(facts, "message", driver.AsError(err).Message)
		}
		u.Audit("forward dialed", facts...)
		return far, err
	}
}

// dialer returns what connects to what the options name; nil when the connection cannot.
func dialer(conn driver.Conn, options *live.PortForwardOptions) stream.DialFunc {
	pod := placeOf(options)
	pods, toPods := conn.(driver.PodForwarder)
	hosts, toHosts := conn.(driver.Forwarder)
	switch {
	case pod.Pod != "" && toPods:
		return func(ctx context.Context, port uint16) (net.Conn, error) { return dialPod(ctx, pods, pod, port) }
	case pod.Pod == "" && toHosts:
		return func(ctx context.Context, port uint16) (net.Conn, error) { return dialFrom(ctx, hosts, options, port) }
	}
	return nil
}

// forward forwards until the client, the connection or the permission ends.
func forward(w http.ResponseWriter, req *http.Request, u *use.Use, conn driver.Conn, info use.LeaseInfo, dial stream.DialFunc) {
	ctx, stop := u.Watch(req.Context())
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(context.Canceled)
	defer use.EndWith(conn, end)() //nolint:contextcheck // the context of the connection tells of its end
	var bytes traffic.Bytes
	u.AuditStarted(info, nil, &bytes)
	began := time.Now()
	limited := limiter{u}
	stream.ServePortForward(w, req.WithContext(ctx), limited.limit(dial, &bytes))
	result := use.Result{Lease: info, Duration: time.Since(began)}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		result.Reason, result.Message = use.Why(ctx, cause)
	}
	u.AuditEnded(&result, &bytes)
}

// dialFrom connects from the target's side. The client of the forward reads its errors.
func dialFrom(ctx context.Context, from driver.Forwarder, options *live.PortForwardOptions, port uint16) (net.Conn, error) {
	network, address := "unix", options.Socket
	if address == "" {
		if port == 0 {
			return nil, errNoPort
		}
		network, address = "tcp", net.JoinHostPort(strings.Trim(hostOf(options), "[]"), strconv.Itoa(int(port)))
	}
	far, err := from.Forward(ctx, network, address)
	if err != nil {
		return nil, unreachable(address+" cannot be reached from the target", err)
	}
	return far, nil
}

func dialPod(ctx context.Context, from driver.PodForwarder, pod driver.Place, port uint16) (net.Conn, error) {
	if port == 0 {
		return nil, errNoPort
	}
	far, err := from.ForwardPod(ctx, pod, port)
	if err != nil {
		return nil, unreachable(fmt.Sprintf("port %d of pod %s cannot be reached", port, pod.Pod), err)
	}
	return far, nil
}

// unreachable says what cannot be reached, and why. The words of a server in it are
// bounded already, and the advice after them must not be cut.
func unreachable(what string, err error) *driver.Error {
	why := driver.AsError(err)
	return &driver.Error{Reason: why.Reason, Message: what + ": " + why.Message, Err: err}
}

var errNoPort = errors.New("0 is not a valid port to forward to (1-65535)")

func validateOptions(options *live.PortForwardOptions) (problems field.ErrorList) {
	const maxSocketLength = 107 // what sun_path holds
	socket := field.NewPath("socket")
	switch {
	case options.Socket == "":
	case options.Host != "":
		problems = append(problems, field.Forbidden(socket, "set either host or socket"))
	case len(options.Socket) > maxSocketLength:
		problems = append(problems, field.TooLong(socket, "", maxSocketLength))
	case !path.IsAbs(options.Socket) || !validate.Printable(options.Socket):
		problems = append(problems, field.Invalid(socket, driver.Sanitize(options.Socket), "must be the absolute path of a unix socket"))
	}
	if options.Port != "" {
		problems = append(problems, validatePort(field.NewPath("port"), options)...)
	}
	if options.Host != "" && !isHost(options.Host) {
		problems = append(problems, field.Invalid(field.NewPath("host"), driver.Sanitize(options.Host),
			"must be a DNS name or an IP address, without a port"))
	}
	return problems
}

func validatePort(path *field.Path, options *live.PortForwardOptions) (problems field.ErrorList) {
	if options.Pod == "" {
		problems = append(problems, field.Forbidden(path, "belongs to a pod; name the pod, or give the number of a port in the stream"))
	}
	number, err := strconv.ParseUint(options.Port, 10, 16)
	if (err != nil || number == 0) && len(validation.IsValidPortName(options.Port)) > 0 {
		problems = append(problems, field.Invalid(path, driver.Sanitize(options.Port),
			"must be a port from 1 to 65535, or the name of one"))
	}
	return problems
}

func isHost(host string) bool {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return len(validation.IsDNS1123Subdomain(strings.ToLower(strings.TrimSuffix(host, ".")))) == 0
}

// fits returns a function that says what of a port-forward a target does not have.
func fits(options *live.PortForwardOptions) use.Fit {
	place := placeOf(options)
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		kind := target.Spec.Type()
		subject := validate.OfType(target.Name, kind)
		switch kind {
		case v1alpha1.TargetTypeSSH:
			return validate.OnHost(nil, target.Name, place)
		case v1alpha1.TargetTypeDocker:
			return field.ErrorList{field.Forbidden(field.NewPath("target"), subject+
				", which cannot forward ports; run a client in the container with exec, or choose a target of type ssh or kubernetes")}
		case v1alpha1.TargetTypeKubernetes:
			problems := validate.InCluster(nil, target.Name, place)
			return append(problems, forbidHost(subject+", where ports belong to pods; name a pod instead", options)...)
		}
		return validate.UnknownType(target.Name, kind)
	}
}

func placeOf(options *live.PortForwardOptions) driver.Place {
	return driver.Place{Pod: options.Pod, Namespace: options.Namespace}
}

func forbidHost(why string, options *live.PortForwardOptions) (problems field.ErrorList) {
	if options.Host != "" {
		problems = append(problems, field.Forbidden(field.NewPath("host"), why))
	}
	if options.Socket != "" {
		problems = append(problems, field.Forbidden(field.NewPath("socket"), why))
	}
	return problems
}

// limiter counts the connections of port-forwards, and watches what their clients take.
type limiter struct{ use *use.Use }

// limit returns dial with the counts around it. A connection that would be one too
// many is refused with an error that its client reads.
func (l limiter) limit(dial stream.DialFunc, bytes *traffic.Bytes) stream.DialFunc {
	return func(ctx context.Context, port uint16) (net.Conn, error) {
		end, err := l.use.Gate.BeginForward(l.use.Owner())
		if err != nil {
			return nil, fmt.Errorf("the port is not forwarded once more: %w", err)
		}
		far, err := dial(ctx, port)
		if err != nil {
			end()
			return nil, err
		}
		c := &countedConn{Conn: far, traffic: bytes, delivery: l.use.Gate.Deliveries.Begin(l.use.Owner(), func() { _ = far.Close() })}
		c.closed = sync.OnceFunc(func() {
			c.delivery.Close()
			end()
		})
		return c, nil
	}
}

type countedConn struct {
	net.Conn

	traffic  *traffic.Bytes
	delivery *delivery.Delivery
	closed   func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// Read implements net.Conn. What it returns is offered to the client until the next call.
func (c *countedConn) Read(p []byte) (int, error) {
	c.delivery.Taken()
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.delivery.Offered()
	}
	c.traffic.Out.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.In.Add(int64(n))
	return n, err
}

// CloseWrite ends one direction, or both if the connection cannot end only one.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(driver.HalfCloser); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
