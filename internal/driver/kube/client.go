package kube

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
	"github.com/connpool/connpool/internal/driver/standby"
)

var errUnused = errors.New("the client has no connections")

// minProbeGap is the least time between an answer and a ping that no caller asked
// for: a server may close every socket after one answer.
const minProbeGap = time.Second

// client is what connections with the same config share. It lives as long as it
// has connections and the server answers. Its context's cause says why it ended.
type client struct {
	options Options
	config  *config
	ctx     context.Context //nolint:containedctx // done when the client has ended
	cancel  context.CancelCauseFunc
	network *network
	// account is whom the credentials stand for, accepted says that the server took them
	// the last time that it was asked, and superseded that it takes others of the account.
	account    string
	accepted   atomic.Bool
	superseded func(*client) bool
	transport  *http.Transport // for what needs no socket of its own
	limiter    flowcontrol.RateLimiter
	spares     *standby.Standby[*socket]
	monitor    *keepalive.Monitor[*answer]
}

func newClient(options Options, config *config, superseded func(*client) bool) (*client, error) {
	secure, err := config.tls()
	if err != nil {
		return nil, err
	}
	c := &client{
		options: options, config: config, account: config.accountOf(), superseded: superseded,
		limiter: flowcontrol.NewTokenBucketRateLimiter(options.QPS, options.Burst),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.monitor = keepalive.New(keepalive.Options[*answer]{
		Address: config.address, Interval: config.keepalive.interval, MinGap: minProbeGap,
		Ask: c.ping, Answered: c.handlePing,
	})
	c.network = &network{
		config: config, secure: secure, timeout: options.StageTimeout, ctx: c.ctx, lost: c.monitor.Suspect,
		conns: map[*conn]driver.DialFunc{},
	}
	c.transport = c.network.newTransport()
	c.spares = c.newSpares()
	c.monitor.Start()
	return c, nil
}

// end closes all that the client has: the sockets of the transport end with the
// context. The first cause counts.
func (c *client) end(cause error) {
	c.cancel(cause)
	c.monitor.Stop()
	c.transport.CloseIdleConnections()
	c.spares.Close()
}

func (c *client) death(stage driver.Stage, started bool) *driver.Error {
	return driver.Ended(context.Cause(c.ctx), c.config.address, stage, started)
}

const (
	spareSockets = 2
	// freshness is how often a spare socket makes a round trip. kube-apiserver closes a
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
