// Package sshhost is an SSH host before it is a target: how a user writes it, the keys
// that it shows or is known by, and the objects that make it a target.
//
// ScanHost asks the host itself, and KnownHosts what the user's ssh knows of it. A
// Target and a Pool turn both into objects, which Write prints.
//
//	scan, err := sshhost.ScanHost(ctx, sshhost.FromHere, address.String(), timeout)
//	...
//	err = scan.Verify(known.Find(address.Host, address.Port))
//
// Trade-off: it reads keys and known_hosts with the code of the SSH driver, so that what
// passes here is what the operator can use, and the plugin depends on a driver's parsers.
package sshhost

import (
	"fmt"
	"net"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// DefaultPort is the port of SSH.
const DefaultPort = 22

// Address is where a host is and who logs in there.
type Address struct {
	// User is "" if the text does not name one.
	User string
	Host string
	Port int
}

// ParseAddress reads [ssh://][USER@]HOST[:PORT]. IPv6 may have brackets.
func ParseAddress(text string) (Address, error) {
	var a Address
	asked := strings.TrimPrefix(text, "ssh://")
	if at := strings.LastIndex(asked, "@"); at >= 0 { // a user may have a realm
		a.User, asked = asked[:at], asked[at+1:]
	}
	if strings.Contains(asked, "://") {
		return a, fmt.Errorf("%q is not an SSH host, and only SSH hosts have keys to pin: "+
			"a Docker engine is verified with the ca.crt in its tlsRef, a cluster with the one in its kubeconfig", asked)
	}
	var err error
	if a.Host, a.Port, err = splitHost(asked); err != nil {
		return a, err
	}
	if !isHost(a.Host) {
		return a, fmt.Errorf("%q is not a valid host name: write HOST or HOST:PORT", a.Host)
	}
	return a, nil
}

// String returns HOST:PORT.
func (a Address) String() string { return Join(a.Host, a.Port) }

// Join returns HOST:PORT, with the brackets of IPv6.
func Join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// splitHost reads HOST[:PORT], with or without the brackets of IPv6.
func splitHost(address string) (string, int, error) {
	if strings.HasPrefix(address, "[") != strings.Contains(address, "]") {
		return "", 0, fmt.Errorf("%q has only one of two brackets: write [ADDRESS]:PORT", address)
	}
	host, port := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), strconv.Itoa(DefaultPort)
	if strings.Contains(address, "]:") || strings.Count(address, ":") == 1 {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", 0, fmt.Errorf("%q is neither HOST nor HOST:PORT", address)
		}
	}
	number, err := ParsePort(port)
	return host, number, err
}

// ParsePort reads a port.
func ParsePort(text string) (int, error) {
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return 0, fmt.Errorf("%q is not a valid port (1-65535)", text)
	}
	return int(number), nil
}

// isHost reports whether a text may name a host. Only DNS knows whether it does.
func isHost(text string) bool {
	if strings.Contains(text, ":") {
		return net.ParseIP(text) != nil
	}
	return text != "" && !strings.ContainsAny(text, "/ \t\n@[]") && !strings.HasPrefix(text, "-")
}

var notInNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^a-z0-9.]+`) })

// NameOf turns the name of a host into the name of an object.
func NameOf(host string) string {
	return strings.Trim(notInNames().ReplaceAllString(strings.ToLower(host), "-"), "-.")
}

// OurName returns the login name of the user, who logs in where no user is named; "" if
// it is unknown.
func OurName() string {
	us, err := user.Current()
	if err != nil {
		return ""
	}
	return us.Username
}
