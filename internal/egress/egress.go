// Package egress opens connections to the addresses that policy allows.
//
// The check runs on the resolved IP, immediately before the socket connects. So it also
// finds a name that resolves to a forbidden address, and an odd spelling of one
// (::ffff:127.0.0.1). Refused unless allowed are loopback, link-local and the other
// addresses of cloud metadata services, multicast, the unspecified address, broadcast,
// IPv6 addresses that stand for one of these in IPv4 (NAT64, 6to4, Teredo), and what the caller denies in
// addition, such as the operator's own control plane. Unix sockets of the operator's
// own host are refused unless all are allowed.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// connectTimeout bounds resolving and connecting together.
const connectTimeout = 10 * time.Second

// Policy says which resolved addresses may be dialed.
type Policy struct {
	// Allow overrides every refusal.
	Allow []netip.Prefix
	// Deny is refused in addition to the built-in ranges.
	Deny []netip.Prefix
	// LocalSockets allows the unix sockets of the operator's own host.
	LocalSockets bool
}

// Check returns an AddressDenied error if the address must not be dialed.
func (p Policy) Check(address netip.Addr) error {
	address = address.Unmap().WithZone("")
	kind := p.forbiddenKind(address)
	if kind == "" || contains(p.Allow, address) {
		return nil
	}
	return driver.Errorf(driver.AddressDenied, driver.StageConnect,
		"the address %s is %s, which targets must not use; choose another host, "+
			"or ask an administrator to start the operator with --allow-cidrs=%s",
		address, kind, netip.PrefixFrom(address, address.BitLen()))
}

// forbiddenKind says what kind of address is refused, or nothing.
func (p Policy) forbiddenKind(address netip.Addr) string {
	for _, meant := range append(embedded(address), address) {
		if kind := builtin(meant); kind != "" {
			return kind
		}
		if contains(p.Deny, meant) {
			return "denied by the operator's configuration"
		}
	}
	return ""
}

// The ranges of IPv6 addresses that stand for IPv4 addresses.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	teredo     = netip.MustParsePrefix("2001::/32")      // RFC 4380
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, deprecated
)

// embedded returns the IPv4 addresses that an IPv6 address may stand for.
func embedded(address netip.Addr) []netip.Addr {
	bytes := address.As16()
	last := netip.AddrFrom4([4]byte(bytes[12:16]))
	switch {
	case address.Is4(), address == netip.IPv6Loopback(), address.IsUnspecified():
	case nat64.Contains(address), compatible.Contains(address):
		return []netip.Addr{last}
	case localNAT64.Contains(address):
		return inLocalNAT64(bytes)
	case teredo.Contains(address):
		client := [4]byte{^bytes[12], ^bytes[13], ^bytes[14], ^bytes[15]}
		return []netip.Addr{netip.AddrFrom4([4]byte(bytes[4:8])), netip.AddrFrom4(client)}
	case sixToFour.Contains(address):
		return []netip.Addr{netip.AddrFrom4([4]byte(bytes[2:6]))}
	}
	return nil
}

// inLocalNAT64 returns the IPv4 addresses at all places that RFC 6052 knows: which one
// counts depends on the length of the prefix that the local network uses. Where there are
// only zeros there is none. Byte 8 is not part of it.
func inLocalNAT64(b [16]byte) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{
		netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),   // a prefix of 48 bits
		netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),  // 56
		netip.AddrFrom4([4]byte{b[9], b[10], b[11], b[12]}), // 64
		netip.AddrFrom4([4]byte(b[12:16])),                  // 96
	}, netip.Addr.IsUnspecified)
}

// metadata are the addresses of clouds' metadata services that are not link-local:
// Amazon's, Google's, Alibaba's, Azure's and Oracle's.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"),
}

// builtin says what kind of address is refused whatever the policy denies, or nothing.
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
	case slices.Contains(metadata, address):
		return "the address of a cloud's metadata service"
	}
	return ""
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// Dial connects from the operator's own network. Its errors are those of
// net.Dialer, or an AddressDenied *driver.Error.
func (p Policy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout}
	switch {
	case network != "unix":
		// The drivers send keepalives of their own, so those of TCP are off.
		dialer.KeepAlive, dialer.Control = -1, p.control
	case !p.LocalSockets:
		return nil, driver.Errorf(driver.AddressDenied, driver.StageConnect,
			"the socket %s is on the operator's own host, which targets must not use; reach the engine over TLS "+
				"or through docker.sshTargetRef, or ask an administrator to start the operator with --allow-local-sockets",
			driver.Sanitize(address))
	}
	return dialer.DialContext(ctx, network, address)
}

func (p Policy) control(_, address string, _ syscall.RawConn) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("check address %q: %w", address, err)
	}
	return p.Check(resolved.Addr())
}
