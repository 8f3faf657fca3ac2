package docker

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/stdio"
)

// Exec implements driver.Execer.
func (c *conn) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	if err := check(command); err != nil {
		return driver.ExitStatus{}, err
	}
	if err := ctx.Err(); err != nil {
		return driver.ExitStatus{}, driver.Errorf(driver.Timeout, driver.StageSession,
			"the caller gave up before the command was started").Because(err)
	}
	if c.ctx.Err() != nil || c.closing.Load() {
		return driver.ExitStatus{}, c.death(driver.StageSession, false)
	}
	prepared := &process{conn: c, container: command.Place.Container, mark: rand.Text()}
	if err := prepared.create(ctx, execOptions(command, streams.Stdin != nil, prepared.mark)); err != nil {
		return driver.ExitStatus{}, err
	}
	e := &execution{
		conn: c, process: prepared, tty: command.TTY, ended: make(chan struct{}),
		streams: stdio.New(streams.Stdin, streams.Stdout, streams.Stderr),
	}
	e.output = outputs{stdout: e.streams.Stdout, stderr: e.streams.Stderr}
	return e.run(ctx)
}

// execution is one command. One goroutine receives its output, others send its input
// and the size of its terminal.
type execution struct {
	conn    *conn
	process *process
	tty     *driver.TTY
	streams *stdio.Streams
	socket  *socket
	output  outputs

	// ended is closed at the end of the output. outputErr may be read then.
	ended     chan struct{}
	outputErr error
}

// run starts the command and waits for its end. Ending a command goes on when the
// caller has left, so that uses the context of the connection.
//
//nolint:contextcheck // as explained above
func (e *execution) run(ctx context.Context) (driver.ExitStatus, error) {
	var err error
	if e.socket, err = e.conn.sockets.take(ctx); err != nil {
		if e.conn.ctx.Err() != nil {
			return driver.ExitStatus{}, e.conn.death(driver.StageStart, false)
		}
		return driver.ExitStatus{}, err
	}
	defer e.socket.Close() //nolint:errcheck // it is used up
	defer e.conn.running.Add(e.ended, func(ctx context.Context) { e.process.signal(ctx, askToEnd) })()
	reader, err := e.start(ctx)
	if err != nil {
		close(e.ended)
		return driver.ExitStatus{}, err
	}
	go e.receive(reader)
	go e.sendInput()
	go e.resize()
	select {
	case <-e.ended:
		return e.result(ctx)
	case <-ctx.Done():
		e.terminate()
		return driver.ExitStatus{}, driver.Unknownf(driver.Timeout, driver.StageRun,
			"the caller gave up while the command ran; it was signaled to end").Because(ctx.Err())
	case what := <-e.streams.Broken:
		e.terminate()
		return driver.ExitStatus{}, driver.Unknownf(driver.Unreachable, driver.StageRun, "%s; the command was signaled to end", what)
	}
}

func (e *execution) receive(reader *bufio.Reader) {
	defer close(e.ended)
	if e.tty != nil {
		e.outputErr = stdio.Copy(e.streams.Stdout, reader)
		return
	}
	e.outputErr = e.output.demultiplex(reader)
}

func (e *execution) sendInput() {
	if e.streams.Stdin == nil {
		return
	}
	if whole := e.streams.Send(e.socket); !whole || e.tty != nil { // a terminal has no end of input
		return
	}
	if err := e.socket.CloseWrite(); errors.Is(err, errors.ErrUnsupported) {
		e.streams.BreakOff("the way to the engine cannot carry the end of the command's input")
	}
}

func (e *execution) resize() {
	if e.tty == nil {
		return
	}
	ctx, cancel := context.WithCancel(e.conn.ctx)
	defer cancel()
	go func() {
		<-e.ended
		cancel()
	}()
	e.process.setSize(ctx, e.tty.Size)
	for {
		select {
		case size, ok := <-e.tty.Resize:
			if !ok {
				return
			}
			e.process.setSize(ctx, size)
		case <-ctx.Done():
			return
		}
	}
}

// result returns how the command ended, after the end of its output.
//
//nolint:contextcheck // ending a command goes on when the caller has left
func (e *execution) result(ctx context.Context) (driver.ExitStatus, error) {
	if e.conn.closing.Load() || e.conn.ctx.Err() != nil {
		return driver.ExitStatus{}, e.conn.death(driver.StageRun, true)
	}
	select {
	case what := <-e.streams.Broken:
		e.terminate()
		return driver.ExitStatus{}, driver.Unknownf(driver.Unreachable, driver.StageRun, "%s; the command was signaled to end", what)
	default:
	}
	if e.outputErr != nil {
		return driver.ExitStatus{}, e.cutOff()
	}
	return e.exitStatus(ctx)
}
