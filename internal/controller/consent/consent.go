// Package consent reads to which hosts the owner of a Secret lets its credentials go.
package consent

import (
	"net"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"github.com/connpool/connpool/internal/driver"
)

// HostOf returns the host of an endpoint; empty if it is a socket or not known yet.
func HostOf(endpoint driver.Endpoint) string {
	if endpoint.Network == "unix" {
		return ""
	}
	host, _, err := net.SplitHostPort(endpoint.Address)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// namePattern is the name of a host in which * stands for any characters. It needs a
// letter, since 10.* would also mean the name 10.example.com.
var namePattern = regexp.MustCompile(`^[a-z0-9_.*-]*[a-z][a-z0-9_.*-]*$`)

// Allows reports whether one of the hosts, separated by commas, is this one. An
// address is compared with addresses and ranges, a name with names and patterns. What is
// none of these allows nothing.
func Allows(hosts, host string) bool {
	address, err := netip.ParseAddr(host)
	isAddress := err == nil
	for pattern := range strings.SplitSeq(hosts, ",") {
		pattern = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(pattern)), ".")
		switch {
		case isAddress && allowsAddress(pattern, address):
			return true
		case !isAddress && namePattern.MatchString(pattern):
			if matched, err := path.Match(pattern, host); matched && err == nil {
				return true
			}
		}
	}
	return false
}

func allowsAddress(pattern string, address netip.Addr) bool {
	if one, err := netip.ParseAddr(pattern); err == nil {
		return one.Unmap() == address.Unmap()
	}
	prefix, err := netip.ParsePrefix(pattern)
	return err == nil && prefix.Contains(address.Unmap())
}
