package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/kubestream"
)

// reportWait is how long the end of a connection without data waits for the
// reason.
const reportWait = time.Second

var _ net.Conn = (*forwarded)(nil)

// forwarded is one connection of a Forwarder.
type forwarded struct {
	*kubestream.Conn

	address string
	// heard means that data has come.
	heard atomic.Bool
}

// Read reads what the target sends. If the target sends nothing because nothing
// listens at the address, the error says so.
func (c *forwarded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	if errors.Is(err, io.EOF) {
		err = c.endError(err)
	}
	return n, err
}

// endError tells the end of the data from what went wrong.
func (c *forwarded) endError(end error) error {
	wait := reportWait
	if c.heard.Load() {
		wait = 0
	}
	if report := c.Report(wait); report != "" {
		return fmt.Errorf("connect to %s: %s", c.address, report)
	}
	if c.Lost() {
		return io.ErrUnexpectedEOF
	}
	return end
}

// LocalAddr returns an empty address: the connection begins in this process.
func (c *forwarded) LocalAddr() net.Addr { return address("") }

// RemoteAddr returns the address as given to Forward.
func (c *forwarded) RemoteAddr() net.Addr { return address(c.address) }

// address is an address as seen from a target.
type address string

// Network returns a name that the net package cannot dial.
func (address) Network() string { return "connpool" }

// String returns the address as it was given.
func (a address) String() string { return string(a) }
