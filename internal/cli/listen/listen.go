// Package listen opens the local ends of what the plugin serves on this machine.
//
// Only its owner can use a socket; every user and machine that reaches its address
// can use a port. An error names the socket or the port as the user typed it.
//
// Trade-off: the permissions of a socket are set just after it was made. A caller
// that cannot accept that moment makes the socket in a directory of its own.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Loopback is the address that other machines cannot reach.
const Loopback = "127.0.0.1"

const loopback6 = "::1"

// TCP listens on a port of an address. Port "0" is any free port. An address of IPv4,
// such as 0.0.0.0, is one of IPv4 only, and one of IPv6, such as ::, of IPv6 only.
func TCP(ctx context.Context, address, port string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, networkOf(address), net.JoinHostPort(address, port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %s of %s: %w", port, address, errors.Unwrap(err))
	}
	return listener, nil
}

func networkOf(address string) string {
	ip, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// Every listens like TCP; for localhost on 127.0.0.1 and on ::1, where this machine has
// both, and on the same port.
func Every(ctx context.Context, address, port string) ([]net.Listener, error) {
	if address != "localhost" {
		listener, err := TCP(ctx, address, port)
		if err != nil {
			return nil, err
		}
		return []net.Listener{listener}, nil
	}
	four, err := TCP(ctx, Loopback, port)
	if err == nil {
		_, port, _ = net.SplitHostPort(four.Addr().String())
	}
	six, otherErr := TCP(ctx, loopback6, port)
	switch {
	case err == nil && otherErr == nil:
		return []net.Listener{four, six}, nil
	case err == nil && hasNot6(otherErr):
		return []net.Listener{four}, nil
	case err == nil:
		_ = four.Close()
		return nil, otherErr
	case otherErr == nil:
		_ = six.Close()
	}
	return nil, err
}

// hasNot6 reports whether this machine has no IPv6 loopback, rather than that its port is
// taken.
func hasNot6(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// Unix makes a socket that only its owner may use.
func Unix(ctx context.Context, path string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the socket %q: %w", path, errors.Unwrap(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("keep others from the socket %q: %w", path, errors.Unwrap(err))
	}
	return listener, nil
}
