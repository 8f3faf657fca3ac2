package transfer

import (
	"context"
	"io"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/pieces"
)

// inPieces copies a file between this machine and a server, if these are its two sides.
func (t *Transfer) inPieces(ctx context.Context, out io.Writer, in io.Reader, size int64) (n int64, ok bool, err error) {
	from, readable := in.(io.ReaderAt)
	to, writable := out.(io.WriterAt)
	if !readable || !writable || size == UnknownSize {
		return 0, false, nil
	}
	c := &pieces.Copy{From: []io.ReaderAt{from}, To: []io.WriterAt{to}, Done: t.Meter.Add}
	switch {
	case filesystem.IsServer(t.To):
		c.Bytes = pieceBytes(t.To, size+1) // one more byte than the file has finds its end
	case filesystem.IsServer(t.From):
		c.Bytes = pieceBytes(t.From, size) // its end is a piece of its own, asked for at once
	default:
		return 0, false, nil
	}
	n, err = c.Run(ctx, 0, size)
	return n, true, err
}

// pieceBytes returns how large the pieces of a file are, which may be a small one.
func pieceBytes(side any, size int64) int {
	server, _ := side.(filesystem.Server)
	most := server.PieceBytes()
	if size <= 1 {
		return most // files of the kernel claim to be empty
	}
	return int(min(size, int64(most)))
}
