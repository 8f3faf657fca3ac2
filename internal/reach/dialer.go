package reach

import (
	"context"
	"errors"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/dialing"
)

const (
	// dialTimeout bounds one dial once it may start. The drivers bound each stage
	// by themselves; this is the bound of all stages together. Two stages have the
	// bound of the endpoint's LoginTimeout, which comes on top.
	dialTimeout = time.Minute
	// maxRestarts bounds how often one dial begins anew because its jump host had
	// no room when its turn had come.
	maxRestarts = 3
)

// errNoRoom means that a dial had its turn and its jump host could not carry it.
var errNoRoom = errors.New("reach: the jump host has no room")

// Dialer dials one version of an access with one keepalive. It is safe for
// concurrent use.
type Dialer struct {
	version   *Version
	keepalive Keepalive
	// forwardOnly is set for the connections to a jump host.
	forwardOnly bool
}

// Dialer returns a dialer with the keepalive.
func (v *Version) Dialer(keepalive Keepalive) *Dialer {
	return &Dialer{version: v, keepalive: keepalive}
}

// Is reports whether d dials the version with the keepalive.
func (d *Dialer) Is(v *Version, keepalive Keepalive) bool {
	return d.version == v && d.keepalive == keepalive
}

// Version is the version that d dials.
func (d *Dialer) Version() *Version { return d.version }

// Dial makes one connection, if its namespace may have one more: once the access is
// prepared, the breaker lets it, the jump host is connected, the budget has a place, and
// the server is not throttled. The log follows it.
func (d *Dialer) Dial(ctx context.Context, log *dialing.Log) (driver.Conn, error) {
	give, err := d.version.connections.take(d.version.namespace)
	if err != nil {
		return nil, err
	}
	made, err := d.dial(ctx, log)
	log.End()
	if err != nil {
		give()
		return nil, err
	}
	context.AfterFunc(made.Context(), give) //nolint:contextcheck // the connection has a life of its own
	return made, nil
}

// Warning says without which part of its access d dials; empty if with all, and before
// it is prepared.
func (d *Dialer) Warning() string { return warningOf(d.version.preparation.Known()) }

func warningOf(prepared driver.Dialer) string {
	if warner, ok := prepared.(driver.Warner); ok {
		return warner.Warning()
	}
	return ""
}

func (d *Dialer) dial(ctx context.Context, log *dialing.Log) (driver.Conn, error) {
	prepared, err := d.version.preparation.Dialer(ctx)
	if err != nil {
		return nil, err
	}
	mine, err := d.version.breaker.Enter(ctx)
	if err != nil {
		return nil, err
	}
	made, err := d.version.dialInTurn(ctx, prepared.With(func(e *driver.Endpoint) {
		d.settings(e)
		log.Note(e)
	}))
	if SessionRefused(err) { // which proves the access: only commands need a session
		_ = d.version.breaker.Leave(ctx, mine, nil)
		return nil, err
	}
	return made, d.version.breaker.Leave(ctx, mine, err)
}

// settings are what the dialer asks of connections beside the access.
func (d *Dialer) settings(e *driver.Endpoint) {
	e.Dial, e.Reopen = d.version.transport.dial, d.version.transport.reopen
	e.ForwardOnly = d.forwardOnly
	e.KeepaliveInterval, e.KeepaliveTimeout = d.keepalive.Interval, d.keepalive.Timeout
}

// dialInTurn makes one connection when it is its turn.
func (v *Version) dialInTurn(ctx context.Context, prepared driver.Dialer) (driver.Conn, error) {
	for restarts := 0; ; restarts++ {
		done, err := v.admit(ctx)
		if err != nil {
			return nil, err
		}
		if err := v.throttles.Refusal(v.server()); err != nil {
			done(context.Canceled) // nothing was dialed
			return nil, err
		}
		made, err := v.dialWithin(ctx, prepared)
		v.throttles.Learn(v.server(), err)
		if restarts < maxRestarts && errors.Is(err, errNoRoom) {
			done(context.Canceled) // nothing was learned of the target
			continue
		}
		done(err)
		return made, err
	}
}

// admit waits for the jump host, then for a place in the budget, in this order: a
// dial that waits for its jump host must not hold a place that the jump host's own
// dial needs. The caller must call done with the result of its dial.
func (v *Version) admit(ctx context.Context) (done func(result error), err error) {
	if err := v.transport.ready(ctx); err != nil {
		return nil, err
	}
	return v.budget.Admit(ctx, v.route())
}

func (v *Version) route() dialbudget.Route {
	return dialbudget.Route{Namespace: v.namespace, Host: v.host(), JumpHost: v.jumpHost()}
}

// hurry lets a dial that waits for its turn go before those that no use waits for.
func (v *Version) hurry() { v.budget.Hurry(v.route()) }

func (v *Version) dialWithin(ctx context.Context, prepared driver.Dialer) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+2*v.access.Endpoint.LoginTimeout)
	defer cancel()
	return prepared.Dial(ctx)
}

// DialAside makes one connection beside the breaker and the throttles. The function
// that opens its stream is wrapped, and passed is told of each stage that has passed.
// forwardOnly says that the target is of use without a session, as a jump host.
// It obeys the budget like any other dial, and insists on its jump host. A failure changes
// nothing for other dials; a success ends the server's throttle.
func (v *Version) DialAside(
	ctx context.Context, wrap func(driver.DialFunc) driver.DialFunc, passed driver.TraceFunc, forwardOnly bool,
) (driver.Conn, error) {
	prepared, err := v.preparation.Checked(ctx)
	if err != nil {
		failure := *driver.AsError(err)
		failure.Stage = driver.StagePrepare
		return nil, &failure
	}
	prepared = prepared.With(func(e *driver.Endpoint) {
		e.Dial, e.Reopen, e.Trace = wrap(v.transport.dial), v.transport.reopen, passed
		e.ForwardOnly = forwardOnly
	})
	found := "the credentials and the pinned identity can be used"
	if warning := warningOf(prepared); warning != "" {
		found = driver.Sanitize(found + "; " + warning)
	}
	passed(driver.StagePrepare, found)
	ctx = connpool.Insisting(ctx)
	done, err := v.admit(ctx)
	if err != nil {
		return nil, err
	}
	made, err := v.dialWithin(ctx, prepared)
	if err != nil {
		done(context.Canceled) // which tells the budget nothing
		return nil, err
	}
	done(nil)
	v.throttles.Learn(v.server(), nil)
	return made, nil
}
