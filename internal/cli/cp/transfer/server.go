package transfer

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/pkg/sftp"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/pieces"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

// inPieces copies a file between this machine and a server, if these are its two sides.
func (t *Transfer) inPieces(ctx context.Context, out io.Writer, in io.Reader, e plan.Entry, offset int64) (n int64, ok bool, err error) {
	size := e.Size
	from, readable := in.(io.ReaderAt)
	to, writable := out.(io.WriterAt)
	if !readable || !writable || size == UnknownSize {
		return 0, false, nil
	}
	c := &pieces.Copy{From: []io.ReaderAt{from}, To: []io.WriterAt{to}}
	server := filesystem.ServerOf(t.To, t.From)
	switch {
	case server == nil:
		return 0, false, nil
	case filesystem.IsLocal(t.From):
		c.Bytes = pieces.Size(server.PieceBytes(), size+1) // one more byte than the file has finds its end
	default:
		c.Bytes = pieces.Size(server.PieceBytes(), size) // its end is a piece of its own, asked for at once
	}
	defer t.addLanes(ctx, c, in, out, size)()
	check := t.comparison().Start(ctx, out, in, e)
	t.Meter.Begin(e.To, offset)
	var sent atomic.Int64
	c.Done = func(n int) {
		sent.Add(int64(n))
		t.Meter.Add(n)
	}
	if n, err = c.Run(ctx, offset, size); err == nil {
		err = check(n)
	}
	if filesystem.IsConnectionLost(err) {
		t.Meter.Broke(e.To, offset+sent.Load())
	}
	return n, true, err
}

// addLanes adds further streams to a copy, if the file is worth them. The function that it
// returns closes the file on them.
func (t *Transfer) addLanes(ctx context.Context, c *pieces.Copy, in io.Reader, out io.Writer, size int64) (closeAll func()) {
	var opened []*sftp.File
	if file, ok := out.(*sftp.File); ok {
		server, _ := t.To.(filesystem.Server)
		opened = server.Lanes(ctx, file.Name(), true, size)
		for _, lane := range opened {
			c.To = append(c.To, lane)
		}
	} else if file, ok := in.(*sftp.File); ok {
		server, _ := t.From.(filesystem.Server)
		opened = server.Lanes(ctx, file.Name(), false, size)
		for _, lane := range opened {
			c.From = append(c.From, lane)
		}
	}
	return func() {
		for _, lane := range opened {
			_ = lane.Close() // what was written is confirmed already
		}
	}
}
