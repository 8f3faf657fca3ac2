package sshserver

import (
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// stream is what both ends of a forward have in common.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// tcpTarget is the address asked for by direct-tcpip; empty if malformed.
func tcpTarget(payload []byte) string {
	var target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(payload, &target) != nil {
		return ""
	}
	return joinPort(target.Host, target.Port)
}

// unixTarget is the path asked for by direct-streamlocal; empty if malformed.
func unixTarget(payload []byte) string {
	var target struct {
		Path         string
		OriginHost   string
		OriginalPort uint32
	}
	if ssh.Unmarshal(payload, &target) != nil {
		return ""
	}
	return target.Path
}

func joinPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

func connect(channel ssh.NewChannel, network, address string) {
	conn, err := net.Dial(network, address)
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	accepted, requests, err := channel.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	join(accepted, requests, conn)
}

// join copies in both directions until both have ended.
func join(channel ssh.Channel, requests <-chan *ssh.Request, conn net.Conn) {
	other, ok := conn.(stream)
	if !ok {
		_, _ = channel.Close(), conn.Close()
		return
	}
	var in, out sync.WaitGroup
	in.Go(func() { pour(other, channel) })
	out.Go(func() { pour(channel, other) })
	go func() {
		in.Wait()
		out.Wait()
		_ = channel.Close()
	}()
	ssh.DiscardRequests(requests) // until either side closes the channel
	in.Wait()                     // what has arrived is delivered
	_ = other.Close()
	out.Wait()
}

func pour(to, from stream) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
}

// answer serves the client's global requests until the connection ends.
func (c *connection) answer(requests <-chan *ssh.Request) {
	for request := range requests {
		ok, reply := c.handle(request)
		if request.WantReply {
			_ = request.Reply(ok, reply)
		}
	}
}

func (c *connection) handle(request *ssh.Request) (bool, []byte) {
	var tcp struct {
		Host string
		Port uint32
	}
	var unix struct{ Path string }
	switch request.Type {
	case "tcpip-forward":
		if ssh.Unmarshal(request.Payload, &tcp) == nil {
			return c.listenTCP(tcp.Host, tcp.Port)
		}
	case "cancel-tcpip-forward":
		return ssh.Unmarshal(request.Payload, &tcp) == nil && c.unlisten(joinPort(tcp.Host, tcp.Port)), nil
	case "streamlocal-forward@openssh.com":
		return ssh.Unmarshal(request.Payload, &unix) == nil && c.listenUnix(unix.Path), nil
	case "cancel-streamlocal-forward@openssh.com":
		return ssh.Unmarshal(request.Payload, &unix) == nil && c.unlisten(unix.Path), nil
	}
	return false, nil
}

func (c *connection) listenTCP(host string, port uint32) (bool, []byte) {
	listener, err := net.Listen("tcp", joinPort(host, port))
	if err != nil {
		return false, nil
	}
	bound := uint32(listener.Addr().(*net.TCPAddr).Port)
	c.listen(joinPort(host, bound), listener, "forwarded-tcpip", func(peer net.Conn) []byte {
		origin := peer.RemoteAddr().(*net.TCPAddr)
		return ssh.Marshal(&struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{host, bound, origin.IP.String(), uint32(origin.Port)})
	})
	return true, ssh.Marshal(&struct{ Port uint32 }{bound})
}

func (c *connection) listenUnix(path string) bool {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return false
	}
	c.listen(path, listener, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(&struct{ Path, Reserved string }{path, ""})
	})
	return true
}

// listen offers every connection to listener as a channel of the kind, which
// extra describes.
func (c *connection) listen(key string, listener net.Listener, kind string, extra func(net.Conn) []byte) {
	c.mu.Lock()
	c.listeners[key] = listener
	c.mu.Unlock()
	c.running.Go(func() {
		for {
			peer, err := listener.Accept()
			if err != nil {
				return
			}
			c.running.Go(func() { c.offer(peer, kind, extra(peer)) })
		}
	})
}

func (c *connection) offer(peer net.Conn, kind string, extra []byte) {
	channel, requests, err := c.conn.OpenChannel(kind, extra)
	if err != nil {
		_ = peer.Close()
		return
	}
	join(channel, requests, peer)
}

func (c *connection) unlisten(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	listener, ok := c.listeners[key]
	delete(c.listeners, key)
	return ok && listener.Close() == nil
}

func (c *connection) closeListeners() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, listener := range c.listeners {
		_ = listener.Close()
	}
}
