package cp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/internal/cli/cp/progress"
)

// filesAtOnce hides the round trips of small files.
const filesAtOnce = 8

// transfer carries out a plan.
type transfer struct {
	from sourceFiles
	to   destinationFiles
	// times are preserved as well as permissions.
	times bool
	meter *progress.Meter

	// inPlace says that the destination refuses to rename.
	inPlace atomic.Bool
	notes   notes

	mu     sync.Mutex
	failed []error // of single files
	made   []entry // directories that did not exist before
}

// run copies everything. It goes on after the failure of a single file, and
// returns those failures; the error is what ended the whole transfer.
func (t *transfer) run(ctx context.Context, entries []entry) ([]error, error) {
	var files []entry
	for i, e := range entries {
		if !e.mode.IsDir() {
			files = append(files, e)
			continue
		}
		if err := t.note(ctx, e, t.makeDirectory(e, i == 0)); err != nil {
			return t.failed, err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(filesAtOnce)
	for _, e := range files {
		group.Go(func() error { return t.note(groupCtx, e, t.copy(groupCtx, e)) })
	}
	if err := group.Wait(); err != nil {
		return t.failed, err
	}
	return t.failed, t.finishDirectories(ctx)
}

func (t *transfer) copy(ctx context.Context, e entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.mode&fs.ModeSymlink != 0 {
		return t.makeLink(e)
	}
	return t.copyFile(ctx, e)
}

// note keeps the failure of a file, and returns an error that ends the transfer.
func (t *transfer) note(ctx context.Context, e entry, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe):
		return fmt.Errorf("copy %q: %w", e.from, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, explain(e.from, err))
	return nil
}

// pump copies with as many requests in flight as sftp allows, in either direction.
func (t *transfer) pump(ctx context.Context, out io.Writer, in io.Reader, size int64) (int64, error) {
	if remote, ok := in.(*sftp.File); ok {
		return remote.WriteTo(&counting{ctx: ctx, meter: t.meter, out: out})
	}
	return io.Copy(out, &counting{ctx: ctx, meter: t.meter, in: in, size: size})
}

// makeDirectory makes a directory unless it exists. Only the directory that the
// user has named may be a link to one.
func (t *transfer) makeDirectory(e entry, named bool) error {
	look := t.to.lstat
	if named {
		look = t.to.stat
	}
	info, err := look(e.to)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%q is in its way", e.to)
	}
	if err := t.to.mkdir(e.to, e.mode|ownerMayFill); err != nil {
		return explain(e.to, err)
	}
	t.made = append(t.made, e)
	return nil
}

// ownerMayFill are the permissions that a directory needs while it is filled.
const ownerMayFill fs.FileMode = 0o700

// finishDirectories sets the metadata of directories last, and of the deepest
// first: the permissions of a directory may forbid to write in it, and each write
// changes its time.
func (t *transfer) finishDirectories(ctx context.Context) error {
	for _, e := range slices.Backward(t.made) {
		if err := t.note(ctx, e, t.finishDirectory(e)); err != nil {
			return err
		}
	}
	return nil
}

func (t *transfer) finishDirectory(e entry) error {
	lent := ownerMayFill &^ e.mode
	if t.times || lent == 0 {
		return t.preserve(e.to, e)
	}
	info, err := t.to.lstat(e.to)
	if err != nil {
		return explain(e.to, err)
	}
	return t.refusable(e.to, "permissions", t.to.chmod(e.to, info.Mode().Perm()&^lent))
}

// send copies a file to a stream.
func (t *transfer) send(ctx context.Context, name string, out io.Writer) error {
	info, err := t.from.stat(name)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular(): // to open a FIFO could wait for ever
		return errors.New("it is no file")
	}
	in, err := t.from.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = t.pump(ctx, out, in, unknownSize)
	return err
}

// counting tells the meter what passes in either direction, and ends with its context.
type counting struct {
	ctx   context.Context
	meter *progress.Meter
	in    io.Reader
	out   io.Writer
	size  int64
}

func (c *counting) Read(buffer []byte) (int, error) { return c.count(c.in.Read, buffer) }

func (c *counting) Write(data []byte) (int, error) { return c.count(c.out.Write, data) }

// Size lets sftp choose how many requests to have in flight.
func (c *counting) Size() int64 { return c.size }

func (c *counting) count(pass func([]byte) (int, error), data []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := pass(data)
	c.meter.Add(n)
	return n, err
}
