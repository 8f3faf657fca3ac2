package kube

import (
	"context"
	"net/http"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/standby"
)

const (
	// spareSockets is how many sockets a client keeps ahead.
	spareSockets = 2
	// freshness is how often each of them makes a round trip. kube-apiserver closes a
	// new socket after 32 seconds without a request, and an old one after 90.
	freshness = 20 * time.Second
)

func (c *client) newSpares() *standby.Standby[*socket] {
	return standby.New(standby.Options[*socket]{
		Count:     spareSockets,
		Dial:      func() (*socket, error) { return c.network.open(c.ctx, c.network.anyDialFunc()) },
		Freshness: freshness,
		Refresh:   c.refresh,
		Lost: func(age time.Duration) {
			if age > freshness/2 { // a server that keeps no socket is not dialed again and again
				c.spares.Replenish()
			}
		},
	})
}

// refresh makes a round trip on a socket, so that the server keeps it.
func (c *client) refresh(socket *socket) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience())
	defer cancel()
	got, err := c.ask(ctx, socket, versionPath, driver.StageKeepalive)
	if err != nil || !socket.idle() {
		return false
	}
	if got.status == http.StatusUnauthorized {
		c.monitor.Suspect()
	}
	return true
}
