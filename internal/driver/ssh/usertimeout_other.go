//go:build !linux

package ssh

import (
	"net"
	"time"
)

// setUserTimeout does nothing: it needs Linux. Elsewhere there is only the keepalive.
func setUserTimeout(net.Conn, time.Duration) {}
