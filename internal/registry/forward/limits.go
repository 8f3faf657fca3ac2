package forward

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
	"github.com/connpool/connpool/internal/stream"
)

// validateOptions returns what is wrong with the query of a port-forward.
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
	if options.Host != "" && !isHost(options.Host) {
		problems = append(problems, field.Invalid(field.NewPath("host"), driver.Sanitize(options.Host),
			"must be a DNS name or an IP address, without a port"))
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
		case v1alpha1.TargetTypeDocker:
			return field.ErrorList{field.Forbidden(field.NewPath("target"), subject+
				", which forwards no ports; run a client in the container with exec, or choose a target of type ssh or kubernetes")}
		case v1alpha1.TargetTypeKubernetes:
			problems := validate.InCluster(nil, target.Name, place)
			return append(problems, forbidHost(subject+", where ports belong to pods; name a pod instead", options)...)
		default:
			return validate.OnHost(nil, target.Name, place)
		}
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

// limiter counts the connections of one port-forward, each of which can hold
// megabytes. The request itself stands for one of them, and every further one is
// a use like any other.
type limiter struct {
	// begin counts one more use.
	begin func() (end func(), err error)

	mu   sync.Mutex // guards what follows
	open int
	ends []func()
}

// limit returns dial with the counts around it. A connection that would be one too
// many is refused with an error that its client reads.
func (l *limiter) limit(dial stream.DialFunc, bytes *use.Traffic) stream.DialFunc {
	return func(ctx context.Context, port uint16) (net.Conn, error) {
		if err := l.add(); err != nil {
			return nil, err
		}
		far, err := dial(ctx, port)
		if err != nil {
			l.remove()
			return nil, err
		}
		return &countedConn{Conn: far, traffic: bytes, closed: sync.OnceFunc(l.remove)}, nil
	}
}

func (l *limiter) add() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open > 0 {
		end, err := l.begin()
		if err != nil {
			return fmt.Errorf("the port is not forwarded once more: %w", err)
		}
		l.ends = append(l.ends, end)
	}
	l.open++
	return nil
}

func (l *limiter) remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if last := len(l.ends) - 1; last >= 0 {
		l.ends[last]()
		l.ends = l.ends[:last]
	}
}

// countedConn counts what goes to the target and what comes from it.
type countedConn struct {
	net.Conn
	traffic *use.Traffic
	closed  func()
}

func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
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
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
