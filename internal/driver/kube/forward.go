package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

// ForwardPod implements driver.PodForwarder. Each stream has a socket of its own.
// The protocol cannot say that a connection succeeded: if nothing listens at the port,
// the first Read returns a *driver.Error. The stream is a driver.HalfCloser. A deadline
// that passes ends it for good.
func (c *conn) ForwardPod(ctx context.Context, pod driver.Place, port uint16) (net.Conn, error) {
	place, err := completePlace(pod, c.namespace)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, driver.Errorf(driver.NotFound, driver.StageStart, "0 is no port of a pod; give one from 1 to 65535")
	}
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	opening, done := joinContexts(ctx, c.ctx)
	defer done()
	socket, refused, err := c.upgrade(opening, podPath(place)+"/portforward", nil, kubestream.ForwardProtocol)
	if refused != nil {
		err = startError(c.client, refused, place)
	}
	if err != nil {
		return nil, c.preferConnError(ctx, err)
	}
	stream, err := c.forward(opening, socket, fmt.Sprintf("port %d of pod %s", port, place.Pod), port)
	if err != nil {
		return nil, c.preferConnError(ctx, err)
	}
	return stream, nil
}

// forward opens the connection on an upgraded socket.
func (c *conn) forward(ctx context.Context, socket *kubestream.Socket, name string, port uint16) (net.Conn, *driver.Error) {
	ctx, cancel := context.WithTimeout(ctx, c.client.options.StageTimeout)
	defer cancel()
	opened, err := kubestream.DialSingle(ctx, socket, strconv.Itoa(int(port)))
	if errors.Is(err, kubestream.ErrClosed) {
		err = io.ErrUnexpectedEOF // as when the server ends any other socket
	}
	if err != nil {
		return nil, transportError(err, driver.StageStart, c.client.config.address)
	}
	return newPodStream(c, socket, opened, name), nil
}
