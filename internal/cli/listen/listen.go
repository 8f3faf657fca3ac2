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
	"os"
)

// Loopback is the address that other machines cannot reach.
const Loopback = "127.0.0.1"

// TCP listens on a port of an address. Port "0" is any free port.
func TCP(ctx context.Context, address, port string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %s of %s: %w", port, address, errors.Unwrap(err))
	}
	return listener, nil
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
