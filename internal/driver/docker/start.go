package docker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/versions"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// inspectTimeout bounds how long the engine is asked for the outcome of a command whose
// streams broke.
const inspectTimeout = 2 * time.Second

// consoleSizeVersion is the first API version that takes a terminal's size with the
// start.
const consoleSizeVersion = "1.42"

// beingSignaled is said of a command that signalLater ends.
const beingSignaled = "it is being signaled to end, and whether it does is not known"

// start sends the request that starts the command, once, and returns the reader of the
// command's output.
func (e *execution) start(ctx context.Context) (*bufio.Reader, error) {
	request, err := e.process.startRequest(e.tty)
	if err != nil {
		return nil, err
	}
	if e.conn.ctx.Err() != nil {
		return nil, e.conn.death(driver.StageStart, false)
	}
	lift := e.socket.stageDeadline(e.conn.options)
	stop := context.AfterFunc(ctx, func() { _ = e.socket.SetDeadline(aLongTimeAgo) })
	before := e.socket.wire.written.Load()
	if _, err := e.socket.Write(request); err != nil && e.socket.wire.written.Load() == before {
		stop()
		return nil, e.process.unwritten(ctx, err)
	}
	response, reader, err := readAnswer(e.socket, nil) //nolint:bodyclose // the socket is the body
	if stopped := stop(); err != nil || !stopped {
		return nil, e.unanswered(ctx, err)
	}
	lift()
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, e.refused(response)
	}
	return reader, nil
}

// startRequest returns the request as bytes. They are written at once, so that a socket
// whose first Write fails has taken nothing.
func (p *process) startRequest(tty *driver.TTY) ([]byte, error) {
	options := container.ExecStartOptions{Tty: tty != nil}
	if versions.GreaterThanOrEqualTo(p.conn.client.ClientVersion(), consoleSizeVersion) {
		options.ConsoleSize = consoleSize(tty)
	}
	//nolint:errchkjson // booleans and numbers cannot fail
	body, _ := json.Marshal(options)
	request, err := http.NewRequest(http.MethodPost, p.url("start"), bytes.NewReader(body)) //nolint:noctx // it is only written
	if err != nil {
		return nil, driver.Errorf(driver.ProtocolError, driver.StageStart, "the request that starts a command cannot be built").Because(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	var text bytes.Buffer
	err = request.Write(&text)
	return text.Bytes(), err
}

func (p *process) unwritten(ctx context.Context, err error) *driver.Error {
	if p.conn.ctx.Err() != nil {
		return p.conn.death(driver.StageStart, false)
	}
	if ctx.Err() != nil {
		return driver.Errorf(driver.Timeout, driver.StageStart, "the caller gave up before the command was started").Because(ctx.Err())
	}
	p.conn.monitor.Suspect()
	return driver.Errorf(driver.Unreachable, driver.StageStart,
		"the connection to %s broke before the command was started", p.conn.endpoint.Address).Because(err)
}

// unanswered classifies a start that was not answered. The command may run, so it is
// signaled to end.
func (e *execution) unanswered(ctx context.Context, err error) *driver.Error {
	_ = e.socket.Close()
	if e.conn.ctx.Err() != nil {
		return e.conn.death(driver.StageStart, true)
	}
	e.signalLater() //nolint:contextcheck // it goes on when the caller has left
	if ctx.Err() != nil {
		return driver.Unknownf(driver.Timeout, driver.StageStart,
			"the caller gave up while the command was being started; "+beingSignaled).Because(ctx.Err())
	}
	e.conn.monitor.Suspect()
	if dialerr.IsTimeout(err) {
		return driver.Unknownf(driver.Timeout, driver.StageStart,
			"%s did not say within %s whether it started the command; check that it is not overloaded",
			e.conn.endpoint.Address, e.conn.options.StageTimeout).Because(err)
	}
	return driver.Unknownf(driver.Unreachable, driver.StageStart,
		"the connection to %s broke while the command was being started", e.conn.endpoint.Address).Because(err)
}

// refused classifies an answer that is not a stream. By a 4xx the engine says that it
// started nothing. A 5xx may come from a gateway and proves nothing.
func (e *execution) refused(response *http.Response) *driver.Error {
	defer e.socket.Close()                                      //nolint:errcheck // it is used up
	_ = e.socket.SetDeadline(time.Now().Add(inspectTimeout))    // for the message
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // as much as there is
	var message struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(said, &message) != nil {
		message.Message = string(said)
	}
	words := driver.Sanitize(message.Message)
	switch code := response.StatusCode; {
	case code == http.StatusConflict && strings.Contains(words, "already"):
		return driver.Unknownf(driver.ProtocolError, driver.StageStart,
			"the engine was told twice to start the command (%s); check what stands before it", words)
	case code == http.StatusConflict && strings.Contains(words, "paused"):
		return paused(e.process.container, words)
	case code == http.StatusNotFound, code == http.StatusConflict:
		return driver.Errorf(driver.NotFound, driver.StageStart,
			"the container %s does not run any more (%s); look with docker ps --all", e.process.container, words)
	case code == http.StatusForbidden, code == http.StatusUnauthorized:
		return driver.Errorf(driver.Forbidden, driver.StageStart,
			"the engine forbids starting commands (%s); allow it in its authorization plugin, or in the proxy before its socket", words)
	case code >= http.StatusBadRequest && code < http.StatusInternalServerError:
		return driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the engine refuses to start the command (%s); see its log", words)
	}
	return driver.Unknownf(driver.ProtocolError, driver.StageStart,
		"%s answers the start of a command with %s instead of its streams (%s); check what stands before the engine",
		e.conn.endpoint.Address, driver.Sanitize(response.Status), words)
}

// exitStatus asks for the exit code until there is one: the output may end before the
// command does.
func (e *execution) exitStatus(ctx context.Context) (driver.ExitStatus, error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		orphaned := e.isOrphaned()
		found, err := e.process.inspect(ctx)
		switch {
		case e.closed():
			return driver.ExitStatus{}, e.conn.death(driver.StageRun, true)
		case err != nil && ctx.Err() == nil:
			return driver.ExitStatus{}, e.process.noExitCode(err)
		case err == nil && !found.Running:
			e.last = found
			if said := string(e.output.refusal.said); strings.HasPrefix(said, refusalPrefix) && found.neverHadAProcess() {
				return e.refusedBy(said)
			}
			return statusOf(found, driver.Sanitize(string(e.output.said)))
		case orphaned:
			return driver.ExitStatus{}, e.lostContainer(ctx)
		}
		if !sleep(ctx, pause) {
			return driver.ExitStatus{}, e.givenUp(ctx)
		}
	}
}

func (e *execution) isOrphaned() bool {
	select {
	case <-e.orphaned:
		return true
	default:
		return false
	}
}

// state is what an engine knows about a command.
type state struct {
	Running bool `json:"Running"`
	// ExitCode is nil for a command that never had a process. Pid alone does not prove
	// that: some engines, such as Podman, forget it when the process has ended.
	ExitCode *int `json:"ExitCode"`
	Pid      int  `json:"Pid"`
	// ContainerID is the full ID of its container.
	ContainerID string `json:"ContainerID"`
}

// inspect asks what became of the command. That changes nothing, so it asks again if
// the answer was lost.
func (p *process) inspect(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, p.conn.options.StageTimeout)
	defer cancel()
	found, err := p.inspectOnce(ctx)
	if err != nil && ctx.Err() == nil && !errdefs.IsNotFound(err) {
		found, err = p.inspectOnce(ctx)
	}
	return found, err
}

// inspectOnce does not use the Docker client, which takes a missing exit code for 0. The
// answer repeats the command, and JSON may need six bytes for one.
func (p *process) inspectOnce(ctx context.Context) (found state, err error) {
	err = get(ctx, p.conn, "/exec/"+p.id+"/json", maxAnswer+6*int64(p.size), func(body *json.Decoder) error {
		return body.Decode(&found)
	})
	return found, err
}

// statusOf returns how a command ended. One with neither an exit code nor a process was
// never started. said are the messages of the engine in the command's streams.
func statusOf(found state, said string) (driver.ExitStatus, error) {
	switch {
	case found.ExitCode == nil && found.Pid == 0:
		return driver.ExitStatus{}, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the engine did not start the command (%s); see its log", cmp.Or(said, "it does not say why"))
	case said != "":
		return driver.ExitStatus{}, driver.Unknownf(driver.ProtocolError, driver.StageRun,
			"the engine broke the command's streams off (%s); see its log", said)
	case found.ExitCode == nil:
		return driver.ExitStatus{}, driver.Unknownf(driver.ProtocolError, driver.StageRun,
			"the command has ended, but the engine does not say its exit code; see its log")
	}
	return driver.ExitStatus{Code: *found.ExitCode}, nil
}

func (p *process) noExitCode(err error) *driver.Error {
	if errdefs.IsNotFound(err) {
		return driver.Unknownf(driver.NotFound, driver.StageRun,
			"the engine no longer knows the command: the container %s was removed or restarted, or the engine was",
			p.container).Because(err)
	}
	p.conn.monitor.Suspect()
	return driver.Unknownf(driver.Unreachable, driver.StageRun,
		"the command's output ended, but %s did not say its exit code", p.conn.endpoint.Address).Because(err)
}

// cutOff classifies a stream that broke. The engine may tell whether the command still
// runs, but output is missing in any case.
func (e *execution) cutOff() *driver.Error {
	ctx, cancel := context.WithTimeout(e.conn.ctx, inspectTimeout)
	defer cancel()
	state, err := e.process.inspect(ctx)
	result := driver.Unknownf(driver.Unreachable, driver.StageRun,
		"the command's streams broke; whether it still runs is not known").Because(e.outputErr)
	switch {
	case e.conn.ctx.Err() != nil:
		return e.conn.death(driver.StageRun, true)
	case err != nil:
		e.conn.monitor.Suspect()
	case state.Running:
		e.signalLater()
		result.Message = "the command's streams broke while it ran; " + beingSignaled
	default:
		result.Message = "the command has ended, but its streams broke before, so its output is not whole"
	}
	if !isNetwork(e.outputErr) {
		result.Reason = driver.ProtocolError
		result.Message = strings.Replace(result.Message, "the command's streams broke", "the engine sent streams that make no sense", 1)
	}
	return result
}
