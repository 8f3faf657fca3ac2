package apiserver

import (
	"net"
	"time"
)

// keepalive makes the server notice within 15 s that the host of an idle client has
// vanished, so that the client's commands are ended. The user timeout of TCP would
// also cut clients that only do not read for a while.
var keepalive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}

// keepAliveListener is a listener whose connections have keepalive. They have all
// methods of TCP connections, but are of another type: on a *net.TCPConn the generic
// server would set a keepalive of 3 minutes.
type keepAliveListener struct{ net.Listener }

// Accept implements net.Listener.
func (l keepAliveListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	_ = tcp.SetKeepAliveConfig(keepalive) // the connection also works without it
	return struct{ *net.TCPConn }{tcp}, nil
}
