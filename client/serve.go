package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/connpool/connpool/internal/kubestream"
)

// Serve accepts connections from listener, dials for each of them, and copies in
// both directions, until ctx ends, the Forwarder is closed or the listener fails.
// Then it closes the listener and all connections, waits for their end, and returns
// why it ended. If report is not nil, it gets the errors of single connections, from
// several goroutines.
func (f *Forwarder) Serve(ctx context.Context, listener net.Listener, report func(error)) error {
	if report == nil {
		report = func(error) {}
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	var workers sync.WaitGroup
	workers.Go(func() {
		select {
		case <-ctx.Done():
		case <-f.Done():
			end(kubestream.ErrClosed)
		}
	})
	for {
		local, err := listener.Accept()
		if err != nil {
			end(err)
			_ = listener.Close()
			workers.Wait()
			return context.Cause(ctx)
		}
		workers.Go(func() {
			if err := f.serve(ctx, local); err != nil && ctx.Err() == nil {
				report(err)
			}
		})
	}
}

// serve copies one accepted connection in both directions.
func (f *Forwarder) serve(ctx context.Context, local net.Conn) error {
	defer local.Close()
	remote, err := f.Dial(ctx)
	if err != nil {
		return err
	}
	defer remote.Close()
	defer context.AfterFunc(ctx, func() {
		_, _ = local.Close(), remote.Close()
	})()
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(remote, local) // the side that closed the connection knows
		closeWrite(remote)
	})
	_, err = io.Copy(local, remote)
	closeWrite(local)
	if err != nil {
		_ = local.Close()
	}
	sending.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closeWrite ends one direction of a connection, or both if it cannot end one.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = conn.Close()
}
