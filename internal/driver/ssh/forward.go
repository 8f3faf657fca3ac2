package ssh

import (
	"context"
	"net"
	"strconv"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// Forward implements driver.Forwarder. A deadline of StageTimeout applies. It does not
// end the connection, because the server may be waiting for the address.
func (c *conn) Forward(ctx context.Context, network, address string) (net.Conn, error) {
	kind, extra, err := forwardRequest(network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.StageTimeout)
	defer cancel()
	answer := make(chan opened, 1)
	go func() { answer <- c.openStream(kind, extra, address) }()
	select {
	case o := <-answer:
		if o.err != nil {
			return nil, o.err
		}
		return newStream(c, o.channel, endpointAddr{network, address}), nil
	case <-ctx.Done():
		go func() {
			if late := <-answer; late.err == nil {
				_ = late.channel.Close()
			}
		}()
		return nil, driver.Errorf(driver.Timeout, driver.StageSession,
			"the server did not reach %s in time", driver.Sanitize(address)).Because(ctx.Err())
	}
}

func (c *conn) openStream(kind string, extra []byte, address string) opened {
	if c.ctx.Err() != nil {
		return opened{err: c.death(driver.StageSession, false)}
	}
	o := openChannel(c, kind, extra)
	if o.err == nil {
		go c.transport.guard.DeclineAll(o.requests)
		return o
	}
	if refused := forwardError(o.err, address); refused != nil {
		return opened{err: refused}
	}
	return opened{err: c.broken(o.err, driver.StageSession, false)}
}

// forwardRequest returns the channel type and the data of RFC 4254, section 7.2, or of
// OpenSSH's PROTOCOL, section 2.4.
func forwardRequest(network, address string) (string, []byte, error) {
	if network == "unix" {
		return "direct-streamlocal@openssh.com", ssh.Marshal(&struct {
			Path       string
			Reserved   string
			ReservedID uint32
		}{Path: address}), nil
	}
	host, port, err := splitAddress(network, address)
	if err != nil || port == 0 {
		return "", nil, badAddress(network, address)
	}
	return "direct-tcpip", ssh.Marshal(&struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}{host, port, "127.0.0.1", 0}), nil
}

func splitAddress(network, address string) (string, uint32, error) {
	host, text, err := net.SplitHostPort(address)
	port, notANumber := strconv.ParseUint(text, 10, 16)
	if network != "tcp" || err != nil || notANumber != nil {
		return "", 0, badAddress(network, address)
	}
	return host, uint32(port), nil
}

func badAddress(network, address string) error {
	return driver.Errorf(driver.ProtocolError, driver.StageSession, "%s is not a valid address to forward to; "+
		"use the network tcp with host:port, or unix with a path", driver.Sanitize(network+" "+address))
}

type endpointAddr struct{ network, address string }

// Network implements net.Addr.
func (a endpointAddr) Network() string { return a.network }

func (a endpointAddr) String() string { return a.address }
