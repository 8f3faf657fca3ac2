package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// execution is one command on an upgraded socket.
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

// explain says why no status came.
func (e *execution) explain(ctx context.Context, err error) *driver.Error {
	unknown := func(reason driver.Reason, message string) *driver.Error {
		return driver.Unknownf(reason, driver.StageRun, "%s", driver.Sanitize(message)).Because(err)
	}
	const goesOn = "; the command lost its streams and may go on"
	switch address := e.conn.client.config.address; {
	case errors.Is(err, kubestream.ErrInput):
		return unknown(driver.Unreachable, "the command's input broke off"+goesOn)
	case errors.Is(err, kubestream.ErrOutput):
		return unknown(driver.Unreachable, "the reader of the command's output went away"+goesOn)
	case ctx.Err() != nil:
		return unknown(driver.Timeout, "the caller did not wait any longer"+goesOn)
	case errors.Is(err, kubestream.ErrSilent):
		return unknown(driver.Timeout, address+" gave no sign of life; check the API server and the network")
	case errors.Is(err, kubestream.ErrProtocol):
		return unknown(driver.ProtocolError, address+" broke the protocol of commands: "+err.Error())
	default:
		return unknown(driver.Unreachable, "the connection to "+address+" was lost"+goesOn)
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
