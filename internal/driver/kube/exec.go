package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// Exec implements driver.Execer.
func (c *conn) Exec(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	place, err := completePlace(command.Place, c.namespace)
	if err != nil {
		return driver.ExitStatus{}, err
	}
	argv, err := commandArgv(command)
	if err != nil {
		return driver.ExitStatus{}, err
	}
	if err := c.begin(ctx); err != nil {
		return driver.ExitStatus{}, err
	}
	defer c.use()()
	running, done := joinContexts(ctx, c.ctx)
	defer done()
	socket, err := c.startCommand(running, place, argv, command.TTY != nil)
	if err != nil {
		return driver.ExitStatus{}, c.preferConnError(ctx, err)
	}
	streams.Accepted()
	e := &execution{conn: c, socket: socket, tty: command.TTY, streams: streams}
	said, err := e.run(running)
	if err != nil {
		return driver.ExitStatus{}, c.preferConnError(ctx, err)
	}
	return e.result(said, place)
}

// preferConnError returns why the connection ended, if that caused the error, or else
// the error.
func (c *conn) preferConnError(ctx context.Context, err *driver.Error) *driver.Error {
	if c.ctx.Err() != nil && ctx.Err() == nil {
		return c.death(err.Stage, err.Started)
	}
	return err
}

// startCommand upgrades a request to a running command. If the pod has several
// containers, of which none was asked for, the server refuses, which proves that
// nothing was started. Then the pod's default container is looked up.
func (c *conn) startCommand(ctx context.Context, place driver.Place, argv []string, tty bool) (*kubestream.Socket, *driver.Error) {
	path := podPath(place) + "/exec"
	socket, refused, err := c.upgrade(ctx, path, execQuery(place, argv, tty), kubestream.ExecProtocol)
	if refused == nil {
		return socket, err
	}
	var found *knownPod
	if isAboutContainer(refused) {
		found = look(ctx, c.client, place)
	}
	chosen := ""
	if place.Container == "" && found != nil {
		chosen = found.preferred
	}
	if chosen != "" {
		place.Container = chosen
		socket, refused, err = c.upgrade(ctx, path, execQuery(place, argv, tty), kubestream.ExecProtocol)
	}
	if refused != nil {
		err = c.offer(ctx, startError(c.client, refused, place), refused, place, found)
	}
	if err != nil && chosen != "" {
		err.Message += driver.Sanitize(" (container " + chosen + " is what the pod's annotation " + defaultContainerAnnotation + " names)")
	}
	return socket, err
}

func podPath(place driver.Place) string {
	return "/api/v1/namespaces/" + url.PathEscape(place.Namespace) + "/pods/" + url.PathEscape(place.Pod)
}

func execQuery(place driver.Place, argv []string, tty bool) url.Values {
	query := url.Values{"command": argv, "stdin": {"true"}, "stdout": {"true"}}
	if place.Container != "" {
		query.Set("container", place.Container)
	}
	if tty {
		query.Set("tty", "true")
	} else {
		query.Set("stderr", "true")
	}
	return query
}

func (e *execution) result(said *metav1.Status, place driver.Place) (driver.ExitStatus, error) {
	switch {
	case said.Status == metav1.StatusSuccess:
		return driver.ExitStatus{}, nil
	case said.Reason == remotecommand.NonZeroExitCodeReason:
		if code, ok := exitCode(said); ok {
			return driver.ExitStatus{Code: code}, nil
		}
	}
	code, err := neverRan(said.Message, place)
	if code != 0 {
		e.writeRuntimeError(said.Message)
		return driver.ExitStatus{Code: code}, nil
	}
	if err != nil {
		return driver.ExitStatus{}, err
	}
	return driver.ExitStatus{}, driver.Unknownf(driver.ProtocolError, driver.StageRun, "%s", driver.Sanitize(
		"the cluster lost the command and does not know how it ended; look into the kubelet's log: "+said.Message))
}

func startError(c *client, refused *answer, place driver.Place) *driver.Error {
	if refused.status == http.StatusUnauthorized {
		c.monitor.Suspect()
	}
	said := messageOf(refused)
	switch refused.status {
	case http.StatusInternalServerError:
		if _, err := neverRan(said, place); err != nil {
			return err
		}
	case http.StatusNotFound:
		return driver.Errorf(driver.NotFound, driver.StageStart, "%s", driver.Sanitize(
			"there is no pod "+place.Pod+" in namespace "+place.Namespace+" of the cluster"))
	case http.StatusBadRequest:
		if status(refused.body) != nil {
			return driver.Errorf(driver.NotFound, driver.StageStart, "%s", driver.Sanitize(
				"pod "+place.Pod+" in namespace "+place.Namespace+" cannot run this; choose another pod or container: "+said))
		}
	case http.StatusForbidden:
		return driver.Errorf(driver.Forbidden, driver.StageStart, "%s", driver.Sanitize(
			"the cluster forbids it; allow it there by RBAC (create and get on pods/exec and pods/portforward): "+said))
	}
	result := c.config.answerError(refused, driver.StageStart)
	if result == nil { // a 2xx, where only 101 or an error is possible
		result = driver.Errorf(driver.ProtocolError, driver.StageStart,
			"%s answers an upgrade with status %d; check that what stands before it passes WebSockets on",
			c.config.address, refused.status)
	}
	result.Started = mayHaveStarted(refused)
	return result
}

// lostAnswer matches what an API server says when it has passed a command to a kubelet
// and could not read the kubelet's answer.
var lostAnswer = regexp.MustCompile(`^(Internal error occurred: )*` +
	`(EOF|unexpected EOF|read |write |tls: |malformed |net/http: |http2?: |context |i/o timeout|error sending request: )`)

// mayHaveStarted reports whether the command may run although the answer is an error:
// a gateway may have lost the real answer. Kubernetes' own answers are a Status.
func mayHaveStarted(refused *answer) bool {
	said := status(refused.body)
	switch refused.status {
	case http.StatusGatewayTimeout:
		return true
	case http.StatusInternalServerError:
		return said == nil || lostAnswer.MatchString(said.Message)
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return said == nil
	}
	return refused.status < http.StatusMultipleChoices
}

type execution struct {
	conn    *conn
	socket  *kubestream.Socket
	tty     *driver.TTY
	streams driver.Streams
}

// run moves data until the status has come, and returns it. An error means that
// the outcome is unknown.
func (e *execution) run(ctx context.Context) (*metav1.Status, *driver.Error) {
	streams := kubestream.Streams{Stdin: e.streams.Stdin, Stdout: e.streams.Stdout, Stderr: e.streams.Stderr}
	switch {
	case e.tty != nil:
		// Container runtimes take the end of a terminal's input for the end of its output
		// too, so it is not sent.
		streams.StdinStaysOpen = true
		streams.Resize = kubestream.Sizes(e.tty.Size, e.tty.Resize)
	case streams.Stdin == nil:
		streams.Stdin = http.NoBody
	}
	status, err := kubestream.Run(ctx, e.socket, streams)
	if err != nil {
		return nil, e.explain(ctx, err)
	}
	return status, nil
}

// goesOn is what is known of a command whose streams are cut.
const goesOn = "; Kubernetes signals no command, so it may run on in the pod without its streams"

func (e *execution) explain(ctx context.Context, err error) *driver.Error {
	unknown := func(reason driver.Reason, message string) *driver.Error {
		return driver.Unknownf(reason, driver.StageRun, "%s", driver.Sanitize(message)+goesOn).Because(err)
	}
	switch address := e.conn.client.config.address; {
	case errors.Is(err, kubestream.ErrInput):
		return unknown(driver.Unreachable, "the command's input broke off")
	case errors.Is(err, kubestream.ErrOutput):
		return unknown(driver.Unreachable, "the reader of the command's output went away")
	case ctx.Err() != nil:
		return unknown(driver.Timeout, "the caller stopped waiting")
	case errors.Is(err, kubestream.ErrSilent):
		return unknown(driver.Timeout, address+" gave no sign of life; check the API server and the network")
	case errors.Is(err, kubestream.ErrProtocol):
		return unknown(driver.ProtocolError, address+" broke the protocol of commands: "+err.Error())
	default:
		return unknown(driver.Unreachable, "the connection to "+address+" was lost")
	}
}

// writeRuntimeError tells the caller what the container runtime said, where a shell
// would: on stderr, or on a terminal.
func (e *execution) writeRuntimeError(said string) {
	writer := e.streams.Stderr
	if e.tty != nil {
		writer = e.streams.Stdout
	}
	if writer != nil {
		_, _ = fmt.Fprintln(writer, driver.Sanitize(notStartedByRuntime.ReplaceAllString(said, "")))
	}
}
