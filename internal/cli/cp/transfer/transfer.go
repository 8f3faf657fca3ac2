package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cp/notes"
	"github.com/connpool/connpool/internal/cli/cp/progress"
)

// filesAtOnce hides the round trips of small files.
const filesAtOnce = 8

// Transfer carries out a plan.
type Transfer struct {
	From Source
	To   Destination
	// Times are preserved as well as permissions.
	Times bool
	// Meter counts what passes.
	Meter *progress.Meter

	// inPlace says that the destination refuses to rename.
	inPlace atomic.Bool
	notes   notes.Notes

	mu     sync.Mutex
	failed []error // of single files
	made   []Entry // directories that did not exist before
}

// Run copies everything. It goes on after the failure of a single file, and
// returns those failures; the error is what ended the whole transfer.
func (t *Transfer) Run(ctx context.Context, entries []Entry) ([]error, error) {
	files, err := t.makeDirectories(ctx, entries)
	if err != nil {
		return t.failed, err
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

// ShowNotes prints what a user should know about the files that were copied.
func (t *Transfer) ShowNotes(out io.Writer) { t.notes.Show(out) }

// makeDirectories makes the directories of a plan, and returns what else there is to
// copy. What is in a directory that cannot be made stays behind with it.
func (t *Transfer) makeDirectories(ctx context.Context, entries []Entry) (files []Entry, err error) {
	failed := "" // the last directory that could not be made; what is in it follows it
	for i, e := range entries {
		if failed != "" && strings.HasPrefix(e.To, failed+"/") {
			continue
		}
		if !e.Mode.IsDir() {
			files = append(files, e)
			continue
		}
		if err := t.makeDirectory(e, i == 0); err != nil {
			err = t.note(ctx, e, fmt.Errorf("%w, so nothing in it was copied", err))
			if failed = e.To; err != nil || i == 0 {
				return nil, err
			}
		}
	}
	return files, nil
}

func (t *Transfer) copy(ctx context.Context, e Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Mode&fs.ModeSymlink != 0 {
		return t.makeLink(e)
	}
	return t.copyFile(ctx, e)
}

// note keeps the failure of a file, and returns an error that ends the transfer.
func (t *Transfer) note(ctx context.Context, e Entry, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe), isLost(err):
		return fmt.Errorf("copy %q: %w", e.From, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, Explain(e.From, err))
	return nil
}

// isLost reports whether a command in a container or pod could not run to its end.
func isLost(err error) bool {
	_, ok := errors.AsType[*client.Error](err)
	return ok
}

// pump copies with as many requests in flight as sftp allows, in either direction.
func (t *Transfer) pump(ctx context.Context, out io.Writer, in io.Reader, size int64) (int64, error) {
	if remote, ok := in.(*sftp.File); ok {
		return remote.WriteTo(&counting{ctx: ctx, meter: t.Meter, out: out})
	}
	return io.Copy(out, &counting{ctx: ctx, meter: t.Meter, in: in, size: size})
}

// makeDirectory makes a directory unless it exists. Only the directory that the
// user has named may be a link to one.
func (t *Transfer) makeDirectory(e Entry, named bool) error {
	look := t.To.Lstat
	if named {
		look = t.To.Stat
	}
	info, err := look(e.To)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%q is in the way", e.To)
	case err != nil:
		if err := t.To.Mkdir(e.To, e.Mode|ownerMayFill); err != nil {
			return Explain(e.To, err)
		}
		t.made = append(t.made, e)
	}
	if named {
		return Explain(e.To, t.To.Enter(e.To))
	}
	return nil
}

// ownerMayFill are the permissions that a directory needs while it is filled.
const ownerMayFill fs.FileMode = 0o700

// finishDirectories sets the metadata of directories last, and of the deepest
// first: the permissions of a directory may forbid to write in it, and each write
// changes its time.
func (t *Transfer) finishDirectories(ctx context.Context) error {
	for _, e := range slices.Backward(t.made) {
		if err := t.note(ctx, e, t.finishDirectory(e)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Transfer) finishDirectory(e Entry) error {
	lent := ownerMayFill &^ e.Mode
	if t.Times || lent == 0 {
		return t.preserve(e.To, e)
	}
	info, err := t.To.Lstat(e.To)
	if err != nil {
		return Explain(e.To, err)
	}
	return t.refusable(e.To, "permissions", t.To.Chmod(e.To, info.Mode().Perm()&^lent))
}

// Send copies a file to a stream.
func (t *Transfer) Send(ctx context.Context, name string, out io.Writer) error {
	info, err := t.From.Stat(name)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular(): // to open a FIFO could wait for ever
		return errors.New("it is not a regular file")
	}
	in, err := t.From.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = t.pump(ctx, out, in, UnknownSize)
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
