package portforward

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// forwarder carries connections to one remote address until it breaks.
type forwarder interface {
	Serve(ctx context.Context, listener net.Listener, report func(error)) error
	Close()
}

type openFunc func(context.Context) (forwarder, error)

// tunnel keeps a forward working. Its listeners live as long as the command, and
// its forwarders as long as the connections behind them.
type tunnel struct {
	open   openFunc
	remote string
	say    func(line string)
	// conns are accepted and wait for a forwarder.
	conns chan net.Conn
}

// Waits between two tries to open a forwarder again.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// accept passes connections on until ctx ends.
func (t *tunnel) accept(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	defer listener.Close()
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("listen on %s: %w", listener.Addr(), err)
		}
		select {
		case t.conns <- conn:
		case <-ctx.Done():
			_ = conn.Close()
		}
	}
}

// serve connects what was accepted, over the first forwarder and, when that
// breaks, over the next one.
func (t *tunnel) serve(ctx context.Context, current forwarder) error {
	for {
		err := current.Serve(ctx, newQueue(t.conns), func(err error) { t.say(err.Error()) })
		current.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.say(fmt.Sprintf("Lost the connection to %s (%v). Connecting again...", t.remote, err))
		if current, err = t.again(ctx); err != nil {
			return err
		}
		t.say("Connected again to " + t.remote)
	}
}

// again opens a forwarder, however long that takes, unless a refusal is final.
func (t *tunnel) again(ctx context.Context) (forwarder, error) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		opened, err := t.open(ctx)
		if err == nil {
			return opened, nil
		}
		if isFinal(err) || ctx.Err() != nil {
			return nil, err
		}
		t.say(fmt.Sprintf("No connection to %s: %v. Trying again in %s", t.remote, err, wait))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// isFinal reports whether trying again cannot help.
func isFinal(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsBadRequest(err)
}

// queue is a listener of connections that the tunnel has accepted. Closing it ends
// the queue and leaves the connections alone.
type queue struct {
	conns  <-chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newQueue(conns <-chan net.Conn) *queue { return &queue{conns: conns, closed: make(chan struct{})} }

// Accept waits for a connection that the tunnel has accepted.
func (q *queue) Accept() (net.Conn, error) {
	// A closed queue takes nothing, even if a connection waits.
	select {
	case <-q.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the queue; later calls do nothing.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr is a placeholder: the tunnel's listeners have the real addresses.
func (q *queue) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
