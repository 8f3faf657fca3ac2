package listen

import (
	"net"
	"testing"
)

// hears reports whether an address has a listener on a port.
func hears(t *testing.T, address, port string) bool {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(address, port))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestAnAddressIsOfOneKindAndLocalhostOfBoth(t *testing.T) {
	for _, c := range []struct {
		address   string
		four, six bool
	}{
		{"0.0.0.0", true, false},
		{"127.0.0.1", true, false},
		{"::", false, true},
		{"::1", false, true},
		{"localhost", true, true},
	} {
		t.Run(c.address, func(t *testing.T) {
			listeners, err := Every(t.Context(), c.address, "0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(listeners[0].Addr().String())
			for _, l := range listeners {
				defer l.Close()
			}
			if four, six := hears(t, "127.0.0.1", port), hears(t, "::1", port); four != c.four || six != c.six {
				t.Errorf("IPv4 %v, IPv6 %v", four, six)
			}
		})
	}
}

func TestATakenPortOfLocalhostIsRefused(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		taken, err := TCP(t.Context(), address, "0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(taken.Addr().String())
		if got, err := Every(t.Context(), "localhost", port); err == nil {
			t.Errorf("it is taken at %s, and %v was opened", address, got)
		}
		_ = taken.Close()
	}
}
