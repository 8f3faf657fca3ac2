package listen

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// Web pages can send requests to the ports of this machine, under any name that
// resolves to it. They cannot change the headers that their browser adds: Host,
// Origin and Sec-Fetch-Site.

// IsOwnOrigin reports whether a request names no origin or, as WebSocket clients of
// Python do, the very address that it asks. A page of another address can neither
// leave its origin out of a request that changes something, nor name this one. The
// scheme does not matter, and some clients get it wrong: only one is served here.
func IsOwnOrigin(request *http.Request) bool {
	origins := request.Header.Values("Origin")
	if len(origins) != 1 {
		return len(origins) == 0
	}
	address, isHTTP := strings.CutPrefix(origins[0], "http")
	return isHTTP && strings.TrimPrefix(address, "s") == "://"+request.Host
}

// IsLoopbackHost reports whether a Host header names this machine by a name that
// no DNS server can assign to another one.
func IsLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.Contains([]string{"localhost", Loopback, "::1"}, strings.Trim(host, "[]"))
}
