package docker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/docker/containers"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// List implements inventory.Lister.
func (c *conn) List(ctx context.Context, query inventory.Query) (*inventory.Places, error) {
	if c.ctx.Err() != nil {
		return nil, c.death(driver.StageSession, false)
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.StageTimeout)
	defer cancel()
	found, err := c.containers(ctx, query)
	if err != nil {
		return nil, c.notListed(ctx, err)
	}
	found.Sort()
	return found, nil
}

func (c *conn) containers(ctx context.Context, query inventory.Query) (*inventory.Places, error) {
	path := "/containers/json"
	if query.All {
		path += "?all=1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, apiURL(c, path), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return containers.Read(response, &query)
}

// notListed classifies why there is no list.
func (c *conn) notListed(ctx context.Context, err error) *driver.Error {
	classified, known := driver.Classified(err)
	switch {
	case c.ctx.Err() != nil:
		return c.death(driver.StageRun, false)
	case known:
		return classified
	case ctx.Err() != nil:
		return driver.Errorf(driver.Timeout, driver.StageRun,
			"%s did not list its containers in time; check that it is not overloaded", c.endpoint.Address).Because(err)
	case errors.Is(err, inventory.ErrTooLong):
		return driver.Errorf(driver.ProtocolError, driver.StageRun,
			"%s sends a list of containers that is too long; check what answers there", c.endpoint.Address).Because(err)
	}
	c.monitor.Suspect()
	if isNetwork(err) {
		return driver.Errorf(driver.Unreachable, driver.StageRun,
			"the connection to %s broke; check the Docker engine and the network", c.endpoint.Address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageRun,
		"%s does not list containers as an engine does (%s); check what answers there",
		c.endpoint.Address, driver.Sanitize(err.Error())).Because(err)
}

// offerTimeout bounds how long an error waits for what to offer in place of a container.
const offerTimeout = 2 * time.Second

// offerRunning adds the containers that run to an error about one that does not.
func (c *conn) offerRunning(ctx context.Context, err *driver.Error) *driver.Error {
	if err.Reason != driver.NotFound {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	found, failed := c.containers(ctx, inventory.ToOffer(""))
	switch {
	case failed != nil:
		err.Message += "; see those that there are with docker ps --all"
	case len(found.Containers) == 0:
		err.Message += "; no container runs there"
	default:
		found.Sort()
		err.Message += "; running: " + found.Offer("")
	}
	return err
}
