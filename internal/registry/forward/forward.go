// Package forward is the port-forward of the live API: ports and unix sockets that
// are reached from a target, or ports of pods, over one leased connection.
//
//	storage["connectionpools/portforward"] = forward.New(gate)
//
// Each connection through a forward counts as a use, because it can hold megabytes;
// the request itself stands for the first of them.
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
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/stream"
)

// New returns the REST storage of the subresource portforward.
func New(gate *use.Gate) *use.Subresource[*live.PortForwardOptions] {
	return &use.Subresource[*live.PortForwardOptions]{
		Object: &live.PortForwardOptions{}, Options: &live.PortForwardOptions{},
		Methods: []string{http.MethodGet, http.MethodPost},
		Admit: func(ctx context.Context, pool string) (*use.Use, use.ServeFunc[*live.PortForwardOptions], error) {
			u, err := gate.Admit(ctx, pool, "portforward")
			return u, func(w http.ResponseWriter, req *http.Request, options *live.PortForwardOptions, _ rest.Responder) error {
				return serve(w, req, u, options)
			}, err
		},
	}
}

// serve leases one connection for as long as the client forwards ports.
func serve(w http.ResponseWriter, req *http.Request, u *use.Use, options *live.PortForwardOptions) error {
	if !stream.IsUpgrade(req) {
		return refusal.NotStarted(refusal.BadRequest, "", "a port-forward needs an upgrade to SPDY, or to SPDY in a WebSocket")
	}
	u.Target, u.Place = options.Target, placeOf(options)
	if problems := validateOptions(options); len(problems) > 0 {
		return refusal.Invalid(problems)
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
	dial := dialer(lease.Conn(), options)
	if dial == nil {
		return refusal.NotStarted(refusal.BadRequest, "", fmt.Sprintf(
			"target %s forwards no ports; choose one of type ssh or kubernetes", lease.Target.Name))
	}
	info := route.LeaseInfo(lease)
	info.Announce(w.Header(), u.RequestID)
	forward(w, req, u, lease.Conn(), info, dial)
	return nil
}

// dialer returns what connects to what the options name; nil when the connection
// cannot.
func dialer(conn driver.Conn, options *live.PortForwardOptions) stream.DialFunc {
	if pod := placeOf(options); pod.Pod != "" {
		if pods, ok := conn.(driver.PodForwarder); ok {
			return func(ctx context.Context, port uint16) (net.Conn, error) { return dialPod(ctx, pods, pod, port) }
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

// forward forwards until the client, the connection or the permission ends.
func forward(w http.ResponseWriter, req *http.Request, u *use.Use, conn driver.Conn, info use.LeaseInfo, dial stream.DialFunc) {
	ctx, stop := u.Watch(req.Context())
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(context.Canceled)
	defer use.EndWith(conn, end)() //nolint:contextcheck // the context of the connection tells of its end
	u.AuditStarted(info, nil)
	var bytes use.Traffic
	began := time.Now()
	limited := &limiter{begin: u.Begin}
	stream.ServePortForward(w, req.WithContext(ctx), limited.limit(dial, &bytes))
	result := use.Result{Lease: info, Duration: time.Since(began)}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		result.Reason, result.Message = use.Why(ctx, cause)
	}
	u.AuditEnded(&result, &bytes)
}

// dialFrom connects from the target's side to what the options name. The client of
// the forward reads its errors.
func dialFrom(ctx context.Context, from driver.Forwarder, options *live.PortForwardOptions, port uint16) (net.Conn, error) {
	network, address := "unix", options.Socket
	if address == "" {
		if port == 0 {
			return nil, errNoPort
		}
		network, address = "tcp", net.JoinHostPort(strings.Trim(cmp.Or(options.Host, "localhost"), "[]"), strconv.Itoa(int(port)))
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
