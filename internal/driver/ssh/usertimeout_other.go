//go:build !linux

package ssh

import (
	"net"
	"time"
)

// setUserTimeout needs Linux; elsewhere the keepalive alone notices.
func setUserTimeout(net.Conn, time.Duration) {}
