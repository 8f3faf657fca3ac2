package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/connpool/connpool/internal/driver"
)

// process is a command as the engine knows it.
type process struct {
	conn      *conn
	container string
	mark      string // the value of markVariable in its environment
	id        string // the engine's ID of it
}

// create asks the engine to prepare the command. It starts nothing.
func (p *process) create(ctx context.Context, options container.ExecOptions) error {
	ctx, cancel := context.WithTimeout(ctx, p.conn.options.StageTimeout)
	defer cancel()
	created, err := p.conn.client.ContainerExecCreate(ctx, p.container, options)
	if err == nil && !plainName.MatchString(created.ID) {
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the engine prepared the command under no name; check what answers at %s", p.conn.endpoint.Address)
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
	return "http://" + host + "/v" + p.conn.client.ClientVersion() + "/exec/" + p.id + "/" + request
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

// markVariable is in the environment of every command, so that its processes can be
// found.
const markVariable = "CONNPOOL_COMMAND"

// signalScript signals the processes whose environment holds a mark. It uses what
// is built into every POSIX shell, since containers may hold nothing else; `read`
// drops the zeros between variables.
//
//nolint:dupword // loops within loops
const signalScript = `for signal in %s; do
  for file in /proc/[0-9]*/environ; do
    text=
    { while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done <"$file"; } 2>/dev/null
    case $text in *%s=%s*)
      pid=${file#/proc/}
      kill "-$signal" "${pid%%/environ}" 2>/dev/null;;
    esac
  done
done`

// The signals are sent to all processes, one after the other. Before they are killed
// they are stopped, twice: while the shell goes through the processes, one that is not
// stopped yet may start another that the shell does not see.
const (
	askToEnd = "TERM"
	kill     = "STOP STOP KILL KILL" //nolint:dupword // as explained above
)

// signal is best effort: the container may have no shell, or be gone.
func (p *process) signal(ctx context.Context, signals string) {
	script := fmt.Sprintf(signalScript, signals, markVariable, p.mark)
	created, err := p.conn.client.ContainerExecCreate(ctx, p.container, container.ExecOptions{
		Cmd: []string{"sh", "-c", script},
	})
	if err == nil && plainName.MatchString(created.ID) {
		_ = p.conn.client.ContainerExecStart(ctx, created.ID, container.ExecStartOptions{Detach: true})
	}
}

// signalLater ends a command in the background that may run although its caller has
// left.
func (p *process) signalLater() {
	go func() {
		ctx, cancel := context.WithTimeout(p.conn.ctx, p.conn.options.StageTimeout)
		defer cancel()
		p.signal(ctx, askToEnd)
		if sleep(ctx, p.conn.options.KillGrace) {
			p.signal(ctx, kill)
		}
	}()
}

// terminate signals the command to end, then kills it. It returns when it does not use
// the caller's writers anymore.
func (e *execution) terminate() {
	if !e.endsAfter(askToEnd) {
		e.endsAfter(kill)
	}
	_ = e.socket.Close()
	e.streams.Silence()
}

func (e *execution) endsAfter(signals string) bool {
	ctx, cancel := context.WithTimeout(e.conn.ctx, e.conn.options.KillGrace)
	defer cancel()
	go e.process.signal(ctx, signals)
	select {
	case <-e.ended:
		return true
	case <-ctx.Done():
		return false
	}
}
