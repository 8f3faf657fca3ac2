package client

import (
	"context"
	"errors"
	"net"
)

// Forwarder opens connections to one address as seen from one target. All of
// them share one connection to the API server. It is safe for concurrent use.
type Forwarder struct{}

// Forward prepares connections to an address as seen from a target: a port of
// the target itself ("5432"), host:port, or the absolute path of a unix socket.
// It fails at once if the caller may not, or the target cannot be reached;
// whether something listens at the address shows when it is dialled. Errors are
// *Error. Close the Forwarder to end it; ctx bounds only the beginning.
func (p *Pool) Forward(ctx context.Context, target, address string) (*Forwarder, error) {
	return nil, notStarted(errors.ErrUnsupported)
}

// Dial opens a connection. The protocol has no word for success: if nothing
// listens at the address, the first Read says so. Deadlines are supported in so
// far as one that passes ends the connection. CloseWrite of the result
// half-closes it.
func (f *Forwarder) Dial(ctx context.Context) (net.Conn, error) { return nil, nil }

// Serve accepts connections from listener, dials for each of them, and copies in
// both directions, until ctx ends, the Forwarder is closed or the listener
// fails; then it closes the listener and all the connections, waits for their
// end, and returns why it ended. What goes wrong with a single connection is
// reported, if report is not nil, from several goroutines.
func (f *Forwarder) Serve(ctx context.Context, listener net.Listener, report func(error)) error {
	return nil
}

// Done is closed when the connection to the API server is lost or closed.
func (f *Forwarder) Done() <-chan struct{} { return nil }

// Close ends the forwarder and every connection dialled through it.
func (f *Forwarder) Close() error { return nil }
