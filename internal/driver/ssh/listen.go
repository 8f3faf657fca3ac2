package ssh

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

const backlog = 64

// listeners are the addresses on which the server listens for this connection.
type listeners struct {
	mu sync.Mutex
	of map[endpointAddr]*listener
}

// take passes a stream that the server offers to its listener, and reports whether
// there is one. A listener whose backlog is full rejects the stream.
func (l *listeners) take(channel ssh.NewChannel) bool {
	target, ok := l.find(channel)
	if !ok {
		return false
	}
	select {
	case target.streams <- channel:
	default:
		_ = channel.Reject(ssh.ResourceShortage, "too many streams wait")
	}
	return true
}

func (l *listeners) find(channel ssh.NewChannel) (*listener, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var tcp struct {
		Host string
		Port uint32
		Rest []byte `ssh:"rest"`
	}
	var unix struct {
		Path string
		Rest []byte `ssh:"rest"`
	}
	address := endpointAddr{}
	switch channel.ChannelType() {
	case "forwarded-tcpip":
		if ssh.Unmarshal(channel.ExtraData(), &tcp) == nil {
			address = tcpAddr(tcp.Host, tcp.Port)
		}
	case "forwarded-streamlocal@openssh.com":
		if ssh.Unmarshal(channel.ExtraData(), &unix) == nil {
			address = endpointAddr{"unix", unix.Path}
		}
	}
	if found, ok := l.of[address]; ok {
		return found, true
	}
	// The stream may come before the port that the server has chosen is known here.
	found, ok := l.of[tcpAddr(tcp.Host, 0)]
	return found, ok && address.network == "tcp"
}

func tcpAddr(host string, port uint32) endpointAddr {
	return endpointAddr{"tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))}
}

func (l *listeners) add(added *listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.of[added.address]; taken {
		return false
	}
	if l.of == nil {
		l.of = map[endpointAddr]*listener{}
	}
	l.of[added.address] = added
	return true
}

func (l *listeners) remove(address endpointAddr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.of[address]
	delete(l.of, address)
	return ok
}

// listener implements net.Listener.
type listener struct {
	conn    *conn
	address endpointAddr
	streams chan ssh.NewChannel
	ctx     context.Context //nolint:containedctx // ends with the connection or Close
	cancel  context.CancelFunc
}

// Listen implements driver.Listener.
func (c *conn) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if _, _, err := splitAddress(network, address); err != nil && network != "unix" {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.StageTimeout)
	defer cancel()
	l := &listener{conn: c, address: endpointAddr{network, address}, streams: make(chan ssh.NewChannel, backlog)}
	l.ctx, l.cancel = context.WithCancel(c.ctx)
	if !c.listeners.add(l) {
		l.cancel()
		return nil, driver.Errorf(driver.Unreachable, driver.StageSession,
			"this connection already listens on %s, or is about to; close that listener first", driver.Sanitize(address))
	}
	listening := make(chan error, 1)
	go func() { listening <- l.listen() }()
	select {
	case err := <-listening:
		if err == nil {
			return l, nil
		}
		_ = l.Close()
		return nil, err
	case <-ctx.Done():
		go func() {
			<-listening
			_ = l.Close()
		}()
		return nil, driver.Errorf(driver.Timeout, driver.StageSession,
			"the server did not listen on %s in time", driver.Sanitize(address)).Because(ctx.Err())
	}
}

// listen asks the server to listen, and learns the port that the server has chosen.
func (l *listener) listen() error {
	kind, payload := l.request()
	ok, reply, err := l.conn.client.SendRequest(kind, true, payload)
	switch {
	case err != nil:
		return l.conn.broken(err, driver.StageSession, false)
	case !ok:
		l.conn.listeners.remove(l.address) // so that Close asks the server for nothing
		return driver.Errorf(driver.Unreachable, driver.StageSession, "the server does not listen on %s; "+
			"check that it is free there, and AllowTcpForwarding, AllowStreamLocalForwarding and PermitListen in its sshd_config",
			driver.Sanitize(l.address.address))
	}
	host, port, _ := splitAddress(l.address.network, l.address.address) // checked by Listen
	if l.address.network == "tcp" && port == 0 && len(reply) >= 4 {
		l.conn.listeners.remove(l.address)
		l.address = tcpAddr(host, binary.BigEndian.Uint32(reply))
		l.conn.listeners.add(l)
	}
	return nil
}

// request returns the type and the data of RFC 4254, section 7.1, or of OpenSSH's
// PROTOCOL, section 2.4.
func (l *listener) request() (string, []byte) {
	if l.address.network == "unix" {
		return "streamlocal-forward@openssh.com", payload(l.address.address)
	}
	host, port, _ := splitAddress(l.address.network, l.address.address) // checked by Listen
	return "tcpip-forward", ssh.Marshal(&struct {
		Host string
		Port uint32
	}{host, port})
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.ctx.Done():
		if l.conn.ctx.Err() != nil {
			return nil, l.conn.death(driver.StageRun, false)
		}
		return nil, net.ErrClosed
	case offered := <-l.streams:
		channel, requests, err := offered.Accept()
		if err != nil {
			return nil, l.conn.broken(err, driver.StageSession, false)
		}
		channel = l.conn.transport.guard.Watch(channel)
		go l.conn.transport.guard.DeclineAll(requests)
		return newStream(l.conn, channel, l.address), nil
	}
}

// Close implements net.Listener. It does not wait for the server.
func (l *listener) Close() error {
	l.cancel()
	if l.conn.listeners.remove(l.address) {
		l.withdraw()
	}
	return nil
}

// withdraw asks the server to stop listening, and rejects the streams in the backlog.
func (l *listener) withdraw() {
	kind, payload := l.request()
	go l.conn.client.SendRequest("cancel-"+kind, false, payload) //nolint:errcheck // it ends with the connection at the latest
	for {
		select {
		case waiting := <-l.streams:
			go waiting.Reject(ssh.ConnectionFailed, io.ErrClosedPipe.Error()) //nolint:errcheck // as above
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.address }
