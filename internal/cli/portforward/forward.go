package portforward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/connpool/connpool/internal/cli/listen"
)

// forward is a local end and where it leads.
type forward struct {
	network, local string // tcp and a port, or unix and a path
	remote         string // in the words of client.Pool.Forward
}

// unixPrefix distinguishes a socket from a port.
const unixPrefix = "unix:"

// parseForward reads [LOCAL:]REMOTE.
func parseForward(text string) (forward, error) {
	local, remote, hasLocal := splitForward(text)
	f := forward{network: "tcp", local: local}
	if path, ok := strings.CutPrefix(remote, unixPrefix); ok {
		if !strings.HasPrefix(path, "/") {
			return forward{}, fmt.Errorf("%q: the path of a remote socket begins with /", text)
		}
		f.remote = path
	} else {
		port, err := remotePort(remote)
		if err != nil {
			return forward{}, fmt.Errorf("%q: %w", text, err)
		}
		f.remote = remote
		if !hasLocal {
			f.local = port
		}
	}
	if path, ok := strings.CutPrefix(local, unixPrefix); ok {
		f.network, f.local = "unix", path
		return f, nil
	}
	f.local = cmp.Or(f.local, "0") // as in kubectl, :80 is port 80 from any local port
	if !isPort(f.local, 0) {
		return forward{}, fmt.Errorf("%q: %q is no local port from 0 to 65535", text, f.local)
	}
	return f, nil
}

// splitForward finds the colon between both ends. What comes first is local if
// it is a number, a socket or nothing.
func splitForward(text string) (local, remote string, hasLocal bool) {
	if i := strings.LastIndex(text, ":"+unixPrefix+"/"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	path, isSocket := strings.CutPrefix(text, unixPrefix)
	head, rest, ok := strings.Cut(path, ":")
	switch {
	case isSocket && ok:
		return unixPrefix + head, rest, true
	case !isSocket && ok && strings.Trim(head, "0123456789") == "":
		return head, rest, true
	}
	return "", text, false
}

// remotePort returns the port of PORT or HOST:PORT.
func remotePort(remote string) (string, error) {
	port := remote
	if strings.Contains(remote, ":") {
		var err error
		if _, port, err = net.SplitHostPort(remote); err != nil {
			return "", errors.New("the remote is neither PORT nor HOST:PORT nor unix:/PATH")
		}
	}
	if !isPort(port, 1) {
		return "", fmt.Errorf("%q is no remote port from 1 to 65535", port)
	}
	return port, nil
}

// isPort reports whether a text is a port, of which the lowest allowed is given.
func isPort(text string, lowest uint64) bool {
	number, err := strconv.ParseUint(text, 10, 16)
	return err == nil && number >= lowest
}

// listen opens the local end, on all of the addresses or on none.
func (f forward) listen(ctx context.Context, addresses []string) ([]net.Listener, error) {
	if f.network == "unix" {
		listener, err := listen.Unix(ctx, f.local)
		if err != nil {
			return nil, err
		}
		return []net.Listener{listener}, nil
	}
	var listeners []net.Listener
	for _, address := range addresses {
		listener, err := listen.TCP(ctx, address, f.local)
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}
