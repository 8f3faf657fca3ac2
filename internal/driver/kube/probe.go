package kube

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keepalive"
)

const (
	readyPath      = "/readyz"
	versionPath    = "/version"
	maxAnswerBytes = 64 << 10
)

// answer is the server's answer to a request of the driver itself.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a GET and reads the whole answer. An error means that there was none.
func (c *client) ask(ctx context.Context, over http.RoundTripper, path string, stage driver.Stage) (*answer, *driver.Error) {
	return c.get(ctx, over, path, http.Header{}, maxAnswerBytes, stage)
}

// get reads at most so many bytes of the answer.
func (c *client) get(
	ctx context.Context, over http.RoundTripper, path string, header http.Header, limit int64, stage driver.Stage,
) (*answer, *driver.Error) {
	address, err := c.config.url(path, "")
	if err != nil {
		return nil, driver.Errorf(driver.ProtocolError, stage, "%s is not a valid path", path)
	}
	header.Set("User-Agent", userAgent)
	c.config.authenticate(header)
	response, err := over.RoundTrip((&http.Request{Method: http.MethodGet, URL: address, Header: header}).WithContext(ctx))
	if err != nil {
		return nil, c.unanswered(err, stage)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit))
	if err != nil {
		return nil, c.unanswered(err, stage)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// ready asks the server whether it is ready, or for its version where the credentials
// may not ask that.
func (c *client) ready(ctx context.Context, over http.RoundTripper, stage driver.Stage) (*answer, *driver.Error) {
	got, err := c.ask(ctx, over, readyPath, stage)
	if err == nil && got.status == http.StatusForbidden {
		got, err = c.ask(ctx, over, versionPath, stage)
	}
	return got, err
}

// ping makes one round trip, with a deadline of its own.
func (c *client) ping() (*answer, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience())
	defer cancel()
	got, err := c.ready(ctx, c.transport, driver.StageKeepalive)
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (c *client) patience() time.Duration {
	if c.config.keepalive.timeout > 0 {
		return c.config.keepalive.timeout
	}
	return c.options.StageTimeout
}

// handlePing ends the client if the server gave no answer or does not accept the
// credentials anymore, unless they were replaced. Any other answer is a sign of life, also an error.
func (c *client) handlePing(result keepalive.Result[*answer]) {
	switch {
	case result.Err != nil:
		c.end(result.Err)
	case result.Answer.status == http.StatusUnauthorized:
		c.refused(result.Answer)
	default:
		c.spares.Replenish()
	}
}

// unanswered classifies why there is no answer. The result belongs to the caller.
func (c *client) unanswered(err error, stage driver.Stage) *driver.Error {
	if classified, ok := driver.Classified(err); ok {
		return classified
	}
	if c.ctx.Err() != nil {
		return c.death(stage, false)
	}
	return transportError(err, stage, c.config.address)
}
