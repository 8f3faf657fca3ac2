package ssh

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/running"
	"github.com/connpool/connpool/internal/driver/shellquote"
	"github.com/connpool/connpool/internal/driver/stdio"
)

// SignalsBy implements driver.Signaler.
func (c *conn) SignalsBy() driver.SignalsBy { return driver.SignalsByServer }

// Exec implements driver.Execer.
func (c *conn) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	request, err := newRequest(command)
	if err == nil {
		err = c.refuseForWindows(command.Argv)
	}
	if err != nil {
		return driver.ExitStatus{}, err
	}
	for starts := 1; ; starts++ {
		status, err := c.execOnce(ctx, command, request, streams)
		if starts == maxStarts || !errors.Is(err, errClosedEarly) {
			return status, err
		}
	}
}

// maxStarts bounds how often a command tries another channel, because the server closed
// the one that it had before anything was sent there.
const maxStarts = 3

// errClosedEarly is the cause of an error that proves that nothing was started.
var errClosedEarly = errors.New("closed before the command was sent")

func (c *conn) execOnce(ctx context.Context, command driver.Command, request request, streams driver.Streams) (driver.ExitStatus, error) {
	if err := ctx.Err(); err != nil {
		return driver.ExitStatus{}, driver.Errorf(driver.Timeout, driver.StageSession,
			"the caller gave up before the command was started").Because(err)
	}
	s, err := c.spare.acquire(ctx)
	if err != nil {
		return driver.ExitStatus{}, err
	}
	if c.opensAhead() {
		defer c.spare.replenish() // the server may have refused a spare while this channel was open
	}
	e := &execution{
		conn: c, channel: s, command: command, request: request, answered: make(chan error, 1),
		streams: stdio.New(streams.Stdin, streams.Stdout, streams.Stderr), signals: streams.Signals, accepted: streams.Accepted,
	}
	return e.run(ctx)
}

// execution is one command on one channel. One goroutine sends: it starts the command,
// then sends its input. Two receive, the output and the errors.
type execution struct {
	conn    *conn
	channel *sessionChannel
	command driver.Command
	request request
	streams *stdio.Streams
	signals <-chan driver.Signal
	// accepted tells the caller that the server has accepted the command.
	accepted func()

	// decided becomes true when the command is about to be sent, or when it is called
	// off before. Only one of the two can set it.
	decided atomic.Bool
	// answered gets the server's answer to the start.
	answered chan error
}

func (e *execution) run(ctx context.Context) (driver.ExitStatus, error) {
	var copying sync.WaitGroup
	copying.Go(func() { _ = stdio.Copy(e.streams.Stdout, e.channel) })
	copying.Go(func() { _ = stdio.Copy(e.streams.Stderr, e.channel.Stderr()) })
	go e.send()
	defer e.conn.running.Add(e.channel.ended, func(context.Context) { e.channel.signal("TERM") })()

	select {
	case err := <-e.answered:
		if err != nil {
			return driver.ExitStatus{}, e.discard(err)
		}
		e.accepted()
	case <-ctx.Done():
		return driver.ExitStatus{}, e.callOff(ctx)
	}
	select {
	case <-e.channel.ended:
		copying.Wait()
		return e.result()
	case <-ctx.Done():
		return driver.ExitStatus{}, e.canceled(ctx, driver.StageRun)
	case what := <-e.streams.Broken:
		return driver.ExitStatus{}, e.terminate(driver.Unknownf(driver.Unreachable, driver.StageRun, "%s", what))
	}
}

// result returns how the command ended. If the connection ended before, that is not
// known: output may be missing, even after an exit status, or the command may have
// ended by the signal of Close.
func (e *execution) result() (driver.ExitStatus, error) {
	if e.conn.transport.ended.Load() || e.conn.closing.Load() {
		return driver.ExitStatus{}, e.conn.death(driver.StageRun, true)
	}
	if e.channel.exited {
		return e.channel.status, nil
	}
	return driver.ExitStatus{}, driver.Unknownf(driver.ProtocolError, driver.StageRun,
		"the server ended the command without an exit status; see its log")
}

func (e *execution) discard(err error) error {
	e.streams.Silence()
	go e.channel.Close() //nolint:errcheck // it ends with the connection at the latest
	return err
}

// callOff ends a command whose caller leaves before the server has answered its start.
func (e *execution) callOff(ctx context.Context) error {
	if e.decided.CompareAndSwap(false, true) {
		return e.discard(driver.Errorf(driver.Timeout, driver.StageStart,
			"the caller gave up before the command was started").Because(context.Cause(ctx)))
	}
	select { // the signal must not be sent before the start
	case err := <-e.answered:
		if err != nil {
			return e.discard(err)
		}
	case <-time.After(e.conn.options.KillGrace):
	}
	return e.canceled(ctx, driver.StageStart)
}

func (e *execution) canceled(ctx context.Context, stage driver.Stage) error {
	return e.terminate(driver.Unknownf(driver.Timeout, stage, "the command was canceled").Because(context.Cause(ctx)))
}

// terminate ends the command as far as the server lets it, and adds to the reason what
// is known of that.
func (e *execution) terminate(why *driver.Error) error {
	why.Message += "; " + e.signalToEnd()
	if !e.channel.hasEnded() {
		why.Leftover = e.channel.ended
	}
	return why
}

// signalToEnd signals the command to end, then kills it, and returns what came of it.
// The signal comes first, because the reader of the output may be slow.
//
// Servers do not say whether they pass a signal on, and closing the channel ends
// nothing but a command with a terminal. OpenSSH signals no process of root, nor that
// of a forced command, and keeps the channel open until it has ended.
func (e *execution) signalToEnd() string {
	go e.channel.signal("TERM")
	e.streams.Silence()
	if e.channel.endsWithin(e.conn.options.KillGrace) && e.channel.exited {
		return "it was signaled, and has ended"
	}
	go func() {
		e.channel.signal("KILL")
		_ = e.channel.Close()
	}()
	if e.channel.endsWithin(e.conn.options.KillGrace) && e.channel.exited {
		return "it was signaled, and its first process has ended; others that it started may still run"
	}
	return "the server did not confirm that the command ended; it may still run"
}

func (e *execution) send() {
	deadline := e.conn.deadline(driver.StageStart)
	err := e.start()
	deadline.Stop()
	e.answered <- err
	if err != nil {
		return
	}
	if e.command.TTY != nil && e.command.TTY.Resize != nil {
		go e.resize(e.command.TTY.Resize)
	}
	go running.PassOn(e.signals, e.channel.ended, func(signal driver.Signal) { e.channel.signal(string(signal)) })
	if whole := e.streams.Send(e.channel); whole && e.command.TTY == nil {
		// A terminal has no end of input, and OpenSSH could not resize it after.
		_ = e.channel.CloseWrite()
	}
}

// start returns nil once the server has accepted the command.
func (e *execution) start() error {
	if err := e.setEnvironment(); err != nil {
		return err
	}
	if err := e.requestTerminal(); err != nil {
		return err
	}
	if e.conn.ctx.Err() != nil {
		return e.conn.death(driver.StageStart, false)
	}
	if !e.decided.CompareAndSwap(false, true) {
		return errors.New("called off")
	}
	written := e.conn.transport.written.Load()
	ok, err := e.channel.SendRequest(e.request.kind, true, e.request.payload)
	switch {
	case err != nil:
		return e.unanswered(err, e.conn.transport.written.Load() > written)
	case !ok:
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the server refuses to start this; check that it offers such commands (%s) to this user", e.request.kind)
	}
	return nil
}

// unanswered classifies a start that was not answered. If nothing was written, nothing
// was started.
func (e *execution) unanswered(err error, written bool) error {
	if e.conn.transport.ended.Load() || !errors.Is(err, io.EOF) {
		return e.conn.broken(err, driver.StageStart, written)
	}
	<-e.channel.ended
	if e.channel.exited && written {
		return nil // some servers end a quick command before they answer its start
	}
	if !written {
		err = errClosedEarly
	}
	return &driver.Error{
		Reason: driver.ProtocolError, Stage: driver.StageStart, Started: written, Err: err,
		Message: "the server closed the session instead of starting the command",
	}
}

// setEnvironment waits for the server's answer to each variable, because the command
// must not run without one. The library has one request of a channel under way at a
// time.
func (e *execution) setEnvironment() error {
	for _, name := range slices.Sorted(maps.Keys(e.command.Env)) {
		variable := struct{ Name, Value string }{name, e.command.Env[name]}
		ok, err := e.channel.SendRequest("env", true, ssh.Marshal(&variable))
		switch {
		case err != nil:
			return e.unanswered(err, false)
		case !ok:
			return driver.Errorf(driver.ProtocolError, driver.StageStart,
				"the server does not take the variable %s; allow it with AcceptEnv in its sshd_config, "+
					"or set it in the command (env NAME=value program)", driver.Sanitize(name))
		}
	}
	return nil
}

func (e *execution) requestTerminal() error {
	tty := e.command.TTY
	if tty == nil {
		return nil
	}
	request := struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{Term: cmp.Or(tty.Term, "xterm"), Columns: uint32(tty.Size.Columns), Rows: uint32(tty.Size.Rows), Modes: "\x00"}
	ok, err := e.channel.SendRequest("pty-req", true, ssh.Marshal(&request))
	switch {
	case err != nil:
		return e.unanswered(err, false)
	case !ok:
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the server does not grant a terminal; run the command without one, or set PermitTTY in its sshd_config")
	}
	return nil
}

func (e *execution) resize(sizes <-chan driver.WindowSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			request := struct{ Columns, Rows, Width, Height uint32 }{Columns: uint32(size.Columns), Rows: uint32(size.Rows)}
			_, _ = e.channel.SendRequest("window-change", false, ssh.Marshal(&request))
		case <-e.channel.ended:
			return
		}
	}
}

type request struct {
	kind    string
	payload []byte
}

func newRequest(command driver.Command) (request, error) {
	if err := command.CheckText(""); err != nil {
		return request{}, err
	}
	switch {
	case len(command.Argv) > 0:
		return requestOf(command.Argv)
	case command.Shell != "":
		return request{"exec", payload(command.Shell)}, nil
	case command.Subsystem != "":
		return request{"subsystem", payload(command.Subsystem)}, nil
	}
	return request{kind: "shell"}, nil
}

// maxLine is what Linux takes as one argument, less a NUL byte: sshd passes the whole
// line to the login shell in one.
const maxLine = 128<<10 - 1

func requestOf(argv []string) (request, error) {
	line := shellquote.Login(argv)
	if len(line) > maxLine {
		return request{}, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the command has %d bytes when it is quoted for the login shell, which takes less than 128 KiB; send long text as input",
			len(line))
	}
	return request{"exec", payload(line)}, nil
}

// refuseForWindows returns an error for words of which cmd, the usual shell of OpenSSH
// for Windows, would execute a part: it knows no single quotes.
func (c *conn) refuseForWindows(argv []string) error {
	special := func(word string) bool { return strings.ContainsAny(word, "&|<>^%\"\r\n") }
	if !strings.Contains(c.info.ServerVersion, "Windows") || !slices.ContainsFunc(argv, special) {
		return nil
	}
	return driver.Errorf(driver.ProtocolError, driver.StageStart,
		"an argument holds a character (such as & or %%) by which the shell of this Windows server may execute a part of it; "+
			"send a line for that shell instead (--shell, or the field shell)")
}

func payload(text string) []byte { return ssh.Marshal(&struct{ Text string }{text}) }
