package egress

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

func TestCheck(t *testing.T) {
	policy := Policy{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")},
		Deny:  []netip.Prefix{netip.MustParsePrefix("10.96.0.1/32")},
	}
	tests := map[string]struct {
		address string
		denied  bool
	}{
		"a public address is allowed":                  {"203.0.113.7", false},
		"a private address is allowed":                 {"10.0.0.8", false},
		"loopback is refused":                          {"127.0.0.1", true},
		"loopback that is allowed by flag passes":      {"127.0.0.2", false},
		"IPv6 loopback is refused":                     {"::1", true},
		"loopback mapped to IPv6 is refused":           {"::ffff:127.0.0.1", true},
		"an allowed address mapped to IPv6 passes":     {"::ffff:127.0.0.2", false},
		"a metadata service is refused":                {"169.254.169.254", true},
		"link-local with a zone is refused":            {"fe80::1%eth0", true},
		"multicast is refused":                         {"224.0.0.1", true},
		"the unspecified address is refused":           {"0.0.0.0", true},
		"broadcast is refused":                         {"255.255.255.255", true},
		"Amazon's metadata service by IPv6 is refused": {"fd00:ec2::254", true},
		"Alibaba's metadata service is refused":        {"100.100.100.200", true},
		"a metadata service through NAT64 is refused":  {"64:ff9b::a9fe:a9fe", true},
		"loopback through 6to4 is refused":             {"2002:7f00:1::", true},
		"a public address through NAT64 is allowed":    {"64:ff9b::cb00:7107", false},
		"what the operator denies through NAT64 too":   {"64:ff9b::a60:1", true},
		"Google's metadata service by IPv6 is refused": {"fd20:ce::254", true},
		"its neighbor is allowed":                      {"fd20:ce::253", false},
		"Azure's metadata service is refused":          {"168.63.129.16", true},
		"Azure's through 6to4 is refused":              {"2002:a83f:8110::1", true},
		"Oracle's metadata service is refused":         {"192.0.0.192", true},
		"local NAT64 of 96 bits is refused":            {"64:ff9b:1::169.254.169.254", true},
		"local NAT64 of 64 bits is refused":            {"64:ff9b:1:0:a9:fea9:fe00:0", true},
		"local NAT64 of 56 bits is refused":            {"64:ff9b:1:a9:fe:a9fe::", true},
		"local NAT64 of 48 bits is refused":            {"64:ff9b:1:a9fe:a9:fe00::", true},
		"a public address by local NAT64 is allowed":   {"64:ff9b:1::203.0.113.7", false},
		"a server's address by Teredo is refused":      {"2001:0:a9fe:a9fe::1", true},
		"a client's address by Teredo is refused":      {"2001:0:4136:e378:8000:63bf:5601:5601", true},
		"a public address by Teredo is allowed":        {"2001:0:4136:e378:8000:63bf:3fff:fdd2", false},
		"what the operator denies by Teredo too":       {"2001:0:4136:e378:8000:63bf:f59f:fffe", true},
		"loopback in the deprecated form is refused":   {"::127.0.0.1", true},
		"a documentation address is no Teredo":         {"2001:db8::1", false},
		"what the operator denies is refused":          {"10.96.0.1", true},
		"its neighbor is not":                          {"10.96.0.2", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := policy.Check(netip.MustParseAddr(tc.address))
			if (err != nil) != tc.denied {
				t.Fatalf("Check(%s) = %v, want denied %t", tc.address, err, tc.denied)
			}
			if err != nil && driver.AsError(err).Reason != driver.AddressDenied {
				t.Errorf("reason %s, want %s", driver.AsError(err).Reason, driver.AddressDenied)
			}
		})
	}
}

func TestDialChecksTheResolvedAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	for _, host := range []string{"localhost", "127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"} {
		_, err := Policy{}.Dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		var denied *driver.Error
		if !errors.As(err, &denied) || denied.Reason != driver.AddressDenied {
			t.Errorf("Dial(%s) = %v, want AddressDenied", host, err)
		}
	}

	allowed := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	conn, err := allowed.Dial(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatalf("an allowed address: %v", err)
	}
	conn.Close()
}

func TestLocalSocketsAreForOperatorsThatAllowThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	everywhere := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	_, err = everywhere.Dial(t.Context(), "unix", path)
	var denied *driver.Error
	if !errors.As(err, &denied) || denied.Reason != driver.AddressDenied || !strings.Contains(denied.Message, "--allow-local-sockets") {
		t.Errorf("Dial = %v, want AddressDenied and the flag", err)
	}

	conn, err := Policy{LocalSockets: true}.Dial(t.Context(), "unix", path)
	if err != nil {
		t.Fatalf("an allowed socket: %v", err)
	}
	conn.Close()
}
