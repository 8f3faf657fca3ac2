package docker

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/connpool/connpool/internal/driver"
)

// process is a command as the engine knows it.
type process struct {
	conn      *conn
	container string
	mark      string // the value of census.Variable in its environment
	id        string // the engine's ID of it
	size      int    // of its arguments, in bytes
	begun     time.Time
	// helps is true for a command of the driver's own, which ends another one. When it
	// fails, it is left alone.
	helps bool
}

// create asks the engine to prepare the command. It starts nothing.
func (p *process) create(ctx context.Context, options container.ExecOptions) error {
	ctx, cancel := context.WithTimeout(ctx, p.conn.options.StageTimeout)
	defer cancel()
	for _, word := range options.Cmd {
		p.size += len(word)
	}
	created, err := p.conn.client.ContainerExecCreate(ctx, p.container, options)
	if err == nil && !plainName.MatchString(created.ID) {
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the engine did not give the prepared command an ID; check what answers at %s", p.conn.endpoint.Address)
	}
	p.id = created.ID
	if err == nil {
		return nil
	}
	return p.notCreated(ctx, err)
}

func (p *process) notCreated(ctx context.Context, err error) *driver.Error {
	if p.conn.ctx.Err() != nil {
		return p.conn.death(driver.StageStart, false)
	}
	if ctx.Err() != nil {
		return driver.Errorf(driver.Timeout, driver.StageStart,
			"%s did not answer in time; check that it is not overloaded", p.conn.endpoint.Address).Because(ctx.Err())
	}
	if unreached, ok := driver.Classified(err); ok { // no socket could be dialed
		return unreached
	}
	if refused := answerError(err, p.container); refused != nil {
		return refused
	}
	p.conn.monitor.Suspect()
	return driver.Errorf(driver.Unreachable, driver.StageStart,
		"the connection to %s broke; check the Docker engine and the network", p.conn.endpoint.Address).Because(err)
}

func (p *process) url(request string) string {
	return apiURL(p.conn, "/exec/"+p.id+"/"+request)
}

// setSize tries for a while, because the engine refuses it until the command runs.
func (p *process) setSize(ctx context.Context, size driver.WindowSize) {
	if size.Columns == 0 || size.Rows == 0 {
		return
	}
	options := container.ResizeOptions{Width: uint(size.Columns), Height: uint(size.Rows)}
	for pause := 10 * time.Millisecond; pause < time.Second; pause *= 2 {
		if p.conn.client.ContainerExecResize(ctx, p.id, options) == nil || !sleep(ctx, pause) {
			return
		}
	}
}

// sleep reports whether the time passed before the context ended.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
