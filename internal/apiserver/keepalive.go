package apiserver

import (
	"net"
	"time"
)

// keepalive notices within 15 s that the host of an idle client has vanished, so
// that what it ran is ended. The user timeout of TCP would also end clients that
// merely do not read for a while.
var keepalive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}

// attentive is a listener whose connections have keepalive. They can all that TCP
// connections can, such as being reset, but are of another type, because the
// generic server would set 3 minutes.
type attentive struct{ net.Listener }

// Accept implements net.Listener.
func (l attentive) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	_ = tcp.SetKeepAliveConfig(keepalive) // it works as well without
	return struct{ *net.TCPConn }{tcp}, nil
}
