package connectiontarget

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"github.com/connpool/connpool/api/v1alpha1"
)

// checkConsent checks that every Secret of the path that names hosts names the host that
// gets its credentials, and the jump hosts on the way: each of them could pose as that
// host, since the target's author also says how hosts prove themselves.
func checkConsent(f facts, _ Drivers) *problem {
	for i, here := range f.path {
		if here.secret == nil {
			continue
		}
		hosts, limited := here.secret.Annotations[v1alpha1.HostsAnnotation]
		if !limited {
			continue
		}
		for _, on := range f.path[i:] {
			if host := hostOf(on); host != "" && !allowsHost(hosts, host) {
				return notConsented(i, here, host)
			}
		}
	}
	return nil
}

func notConsented(i int, here pathElement, host string) *problem {
	_, name := credentialsOf(here.target)
	message := fmt.Sprintf("the annotation %s of the Secret %s does not name the host %s, so its credentials do not go there; "+
		"let the Secret's owner add the host, or use another Secret", v1alpha1.HostsAnnotation, name, host)
	if i > 0 {
		return jumpNotReady(here.name, message)
	}
	return credentialsMissing(message)
}

// hostOf returns the host that an element is reached at; empty if it is a socket or not
// known yet.
func hostOf(e pathElement) string {
	endpoint := e.access().Endpoint
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

// allowsHost reports whether one of the hosts, separated by commas, is this one. An
// address is compared with addresses and ranges, a name with names and patterns. What is
// none of these allows nothing.
func allowsHost(hosts, host string) bool {
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
