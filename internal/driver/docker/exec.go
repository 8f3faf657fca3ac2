package docker

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/running"
	"github.com/connpool/connpool/internal/driver/stdio"
)

// SignalsBy implements driver.Signaler.
func (c *conn) SignalsBy() driver.SignalsBy { return driver.SignalsByHelper }

// Exec implements driver.Execer.
func (c *conn) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	command.Place.Container = strings.TrimPrefix(command.Place.Container, "/") // engines write names so
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
	prepared := &process{conn: c, container: command.Place.Container, mark: rand.Text(), begun: time.Now()}
	if err := prepared.create(ctx, execOptions(command, streams.Stdin != nil, prepared.mark)); err != nil {
		return driver.ExitStatus{}, c.offerRunning(ctx, driver.AsError(err))
	}
	e := newExecution(prepared, command.TTY, streams)
	defer c.watch.add(e)()
	return e.run(ctx)
}

func newExecution(prepared *process, tty *driver.TTY, streams driver.Streams) *execution {
	e := &execution{
		conn: prepared.conn, process: prepared, tty: tty, ended: make(chan struct{}), orphaned: make(chan struct{}),
		streams: stdio.New(streams.Stdin, streams.Stdout, streams.Stderr), signals: streams.Signals,
		accepted: streams.Accepted,
	}
	e.output = outputs{stdout: e.streams.Stdout, stderr: e.streams.Stderr, refusal: refusal{never: e.neverStarted}}
	return e
}

// execution is one command. One goroutine receives its output, others send its input
// and the size of its terminal.
type execution struct {
	conn    *conn
	process *process
	tty     *driver.TTY
	streams *stdio.Streams
	signals <-chan driver.Signal
	// accepted tells the caller that the engine has accepted the command.
	accepted func()
	socket   *socket
	output   outputs

	// ended is closed at the end of the output. outputErr may be read then.
	ended     chan struct{}
	outputErr error

	// orphaned is closed when the container has died in which the command was started.
	orphaned chan struct{}
	last     state // what the engine said of the command in the end

	// life and home are those of the container, home being its ID, once the watch knows
	// them. Only the watch uses them.
	life life
	home string
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
	if !e.process.helps {
		defer e.conn.running.Add(e.ended, func(ctx context.Context) { _ = (&pursuit{process: e.process}).signal(ctx, askToEnd) })()
	}
	reader, err := e.start(ctx)
	if err != nil {
		close(e.ended)
		return driver.ExitStatus{}, err
	}
	e.accepted()
	go e.receive(reader)
	go e.sendInput()
	go e.resize()
	go running.PassOn(e.signals, e.ended, e.pass)
	select {
	case <-e.ended:
		return e.result(ctx)
	case <-e.orphaned:
		return e.outlived(ctx)
	case <-ctx.Done():
		return driver.ExitStatus{}, e.givenUp(ctx)
	case what := <-e.streams.Broken:
		return driver.ExitStatus{}, e.brokenOff(what)
	}
}

func (e *execution) receive(reader *bufio.Reader) {
	defer close(e.ended)
	if e.tty != nil {
		e.outputErr = stdio.Copy(opening{e.streams.Stdout, &e.output.refusal}, reader)
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
	if e.closed() {
		return driver.ExitStatus{}, e.conn.death(driver.StageRun, true)
	}
	select {
	case what := <-e.streams.Broken:
		return driver.ExitStatus{}, e.brokenOff(what)
	default:
	}
	if e.outputErr != nil {
		return driver.ExitStatus{}, e.cutOff()
	}
	return e.exitStatus(ctx)
}

// closed reports whether the connection has ended, or is about to end its commands.
func (e *execution) closed() bool {
	return e.conn.ctx.Err() != nil || e.conn.closing.Load() && !e.process.helps
}

//nolint:contextcheck // ending a command goes on when the caller has left
func (e *execution) givenUp(ctx context.Context) *driver.Error {
	return driver.Unknownf(driver.Timeout, driver.StageRun,
		"the caller stopped waiting; %s", e.terminate()).Because(ctx.Err())
}

func (e *execution) brokenOff(what string) *driver.Error {
	return driver.Unknownf(driver.Unreachable, driver.StageRun, "%s; %s", what, e.terminate())
}

// outlived returns how a command ended whose container died. Its streams may end a
// moment later.
func (e *execution) outlived(ctx context.Context) (driver.ExitStatus, error) {
	grace, cancel := context.WithTimeout(ctx, e.conn.options.KillGrace)
	defer cancel()
	select {
	case <-e.ended:
		return e.result(ctx)
	case <-grace.Done():
	}
	_ = e.socket.Close()
	e.streams.Silence()
	return driver.ExitStatus{}, e.lostContainer(ctx)
}

// lostContainer says that the container died. Even if the engine tells an exit code,
// output may be missing, so the outcome stays unknown.
func (e *execution) lostContainer(ctx context.Context) *driver.Error {
	if e.conn.ctx.Err() != nil {
		return e.conn.death(driver.StageRun, true)
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	known := "whether the command goes on is not known"
	if found, err := e.process.inspect(ctx); err == nil && !found.Running && found.ExitCode != nil {
		known = fmt.Sprintf("the engine says that the command ended with code %d, but its output may not be whole", *found.ExitCode)
	}
	return driver.Unknownf(driver.NotFound, driver.StageRun,
		"the container %s died while the command ran, and the engine did not end the command's streams; %s; look with docker ps --all",
		e.process.container, known)
}
