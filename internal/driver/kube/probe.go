package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const (
	readyPath   = "/readyz"
	versionPath = "/version"
	// maxAnswerBytes bounds an answer that is read whole.
	maxAnswerBytes = 64 << 10
)

// answer is what the server said to a question of ours.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a GET of ours and reads the answer whole. An error means that there
// was none.
func (c *client) ask(ctx context.Context, over http.RoundTripper, path string, stage driver.Stage) (*answer, *driver.Error) {
	return c.get(ctx, over, path, http.Header{}, stage)
}

// askMetadata asks for an object without its content.
func (c *client) askMetadata(ctx context.Context, path string) (*answer, *driver.Error) {
	header := http.Header{"Accept": {"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}}
	return c.get(ctx, c.transport, path, header, driver.StageStart)
}

func (c *client) get(
	ctx context.Context, over http.RoundTripper, path string, header http.Header, stage driver.Stage,
) (*answer, *driver.Error) {
	address, err := c.config.url(path, "")
	if err != nil {
		return nil, notStarted(driver.ProtocolError, stage, "%s is no path", path)
	}
	header.Set("User-Agent", userAgent)
	c.config.authenticate(header)
	response, err := over.RoundTrip((&http.Request{Method: http.MethodGet, URL: address, Header: header}).WithContext(ctx))
	if err != nil {
		return nil, c.unanswered(err, stage)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return nil, c.unanswered(err, stage)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// ready asks whether the server serves us: at its readiness, or where that is
// forbidden at its version.
func (c *client) ready(ctx context.Context, over http.RoundTripper, stage driver.Stage) (*answer, *driver.Error) {
	got, err := c.ask(ctx, over, readyPath, stage)
	if err == nil && got.status == http.StatusForbidden {
		got, err = c.ask(ctx, over, versionPath, stage)
	}
	return got, err
}

// ping is one look at the server.
type ping struct {
	answered chan struct{}
	answer   *answer
	err      *driver.Error // there was no answer
}

// ping joins the look that is under way, or starts one, so that a server that does
// not answer is asked once, however many wait for it.
func (c *client) ping() *ping {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pingLocked()
}

func (c *client) pingLocked() *ping {
	if c.pinging == nil {
		c.pinging = &ping{answered: make(chan struct{})}
		go c.look(c.pinging)
	}
	return c.pinging
}

// look is one round trip, and what it means for the client.
//
//nolint:contextcheck,nolintlint // it is the client's affair, whoever asked
func (c *client) look(p *ping) {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience())
	defer cancel()
	begin := time.Now()
	p.answer, p.err = c.ready(ctx, c.transport, driver.StageKeepalive)
	if p.err == nil {
		c.roundTrip.Store(int64(time.Since(begin)))
	}
	c.judge(p)
	c.mu.Lock()
	c.pinging, c.pinged = nil, time.Now()
	c.mu.Unlock()
	close(p.answered)
}

// patience is how long a sign of life may take.
func (c *client) patience() time.Duration {
	if c.config.keepalive.timeout > 0 {
		return c.config.keepalive.timeout
	}
	return c.options.StageTimeout
}

// judge ends the client if the server gave no answer or does not know us any
// more. Any other answer is a sign of life.
func (c *client) judge(p *ping) {
	switch {
	case p.err != nil:
		c.end(p.err)
	case p.answer.status == http.StatusUnauthorized:
		c.end(c.refused(p.answer, driver.StageKeepalive))
	default:
		c.spares.replenish()
	}
}

// keepalive asks for a sign of life and comes back for the next one. It runs on a
// timer, so that an idle client needs no goroutine for it.
func (c *client) keepalive() {
	<-c.ping().answered
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil {
		c.timer.Reset(c.config.keepalive.interval)
	}
}

// suspect looks at the server soon, because something just happened that a server
// that serves us would not do: the last socket was lost, or a request met 401.
func (c *client) suspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspected || c.ctx.Err() != nil {
		return
	}
	c.suspected = true
	time.AfterFunc(calm-time.Since(c.pinged), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.suspected = false
		if c.ctx.Err() == nil {
			c.pingLocked()
		}
	})
}

// probe looks at the server and says whether it is ready.
func (c *client) probe(ctx context.Context) *driver.Error {
	p := c.ping()
	select {
	case <-p.answered:
	case <-ctx.Done():
		err := notStarted(driver.Timeout, driver.StageKeepalive,
			"%s did not answer a probe in time; check that it is not overloaded", c.config.address)
		err.Err = ctx.Err()
		return err
	}
	if p.err != nil {
		return p.err
	}
	return c.refused(p.answer, driver.StageKeepalive)
}

// unanswered classifies why there is no answer.
func (c *client) unanswered(err error, stage driver.Stage) *driver.Error {
	if classified, ok := errors.AsType[*driver.Error](err); ok {
		return classified
	}
	if c.ctx.Err() != nil {
		return c.death(stage, false)
	}
	return transportError(err, stage, c.config.address)
}
