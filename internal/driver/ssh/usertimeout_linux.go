package ssh

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout has the kernel give a connection up when what was sent stays
// unacknowledged for so long. It is a second line behind the keepalive, so a
// failure to set it does not matter.
func setUserTimeout(network net.Conn, timeout time.Duration) {
	tcp, ok := network.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
}
