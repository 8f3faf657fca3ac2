// Package egress opens TCP connections to the addresses that policy allows.
//
// The check runs on the resolved IP, immediately before the socket connects, so
// neither a name that resolves to a forbidden address nor an odd spelling of one
// (::ffff:127.0.0.1) gets past it. Refused unless allowed: loopback, link-local
// (where cloud metadata services live), multicast, the unspecified address, and
// whatever the caller denies in addition, such as the operator's own control
// plane.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// connectTimeout bounds resolving and connecting together. Kept-alive probes
// are the drivers' business, so TCP's own are off.
const connectTimeout = 10 * time.Second

// Policy says which resolved addresses may be dialled.
type Policy struct {
	// Allow overrides every refusal.
	Allow []netip.Prefix
	// Deny is refused in addition to the built-in ranges.
	Deny []netip.Prefix
}

// Check returns an AddressDenied error if the address must not be dialled.
func (p Policy) Check(address netip.Addr) error {
	address = address.Unmap().WithZone("")
	if contains(p.Allow, address) {
		return nil
	}
	kind := builtin(address)
	if kind == "" && contains(p.Deny, address) {
		kind = "denied by the operator's configuration"
	}
	if kind == "" {
		return nil
	}
	return &driver.Error{
		Reason: driver.AddressDenied,
		Stage:  driver.StageConnect,
		Message: fmt.Sprintf("the address %s is %s, which targets must not use; choose another host, "+
			"or have the operator started with --allow-cidrs=%s", address, kind, single(address)),
	}
}

func builtin(address netip.Addr) string {
	switch {
	case !address.IsValid():
		return "not an IP address"
	case address.IsLoopback():
		return "a loopback address"
	case address.IsLinkLocalUnicast():
		return "a link-local address"
	case address.IsMulticast():
		return "a multicast address"
	case address.IsUnspecified():
		return "the unspecified address"
	case address == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	}
	return ""
}

// single is the CIDR that holds one address only.
func single(address netip.Addr) netip.Prefix {
	return netip.PrefixFrom(address, address.BitLen())
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// Dial connects from the operator's own network. Its errors are those of
// net.Dialer, or an AddressDenied *driver.Error.
func (p Policy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: -1, Control: p.control}
	return dialer.DialContext(ctx, network, address)
}

func (p Policy) control(_, address string, _ syscall.RawConn) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("check address %q: %w", address, err)
	}
	return p.Check(resolved.Addr())
}
