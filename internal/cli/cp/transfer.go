package cp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"
)

// filesAtOnce hides the round trips of small files.
const filesAtOnce = 8

// transfer carries out a plan.
type transfer struct {
	from sourceFiles
	to   destinationFiles
	// times are preserved as well as permissions.
	times bool
	meter *meter

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
		return t.replace(e.to, func(temporary string) error { return t.to.link(e.link, temporary) })
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

func (t *transfer) copyFile(ctx context.Context, e entry) error {
	in, err := t.from.open(e.from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return t.replace(e.to, func(temporary string) error {
		if err := t.fill(ctx, temporary, in, e.size); err != nil {
			return err
		}
		return t.setMetadata(temporary, e)
	})
}

// replace builds a file or link under a temporary name beside its own and renames
// it, so that no reader sees half of it, and an old file stays until then.
func (t *transfer) replace(name string, build func(temporary string) error) error {
	temporary := path.Join(path.Dir(name), temporaryName())
	err := build(temporary)
	if err == nil {
		err = explain(name, t.to.rename(temporary, name))
	}
	if err != nil {
		_ = t.to.remove(temporary)
	}
	return err
}

// temporaryName returns a hidden name that is short enough for any directory.
func temporaryName() string { return ".connpool-" + strings.ToLower(rand.Text()[:16]) }

// unknownSize is the size of a stream.
const unknownSize = -1

func (t *transfer) fill(ctx context.Context, name string, in io.Reader, size int64) error {
	out, err := t.to.create(name)
	if err != nil {
		return explain(path.Dir(name), err)
	}
	written, err := t.pump(ctx, out, in, size)
	// Some servers report a full disk only when the file is closed.
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if written < size {
		return fmt.Errorf("it ended after %d of %d bytes", written, size)
	}
	return nil
}

// pump copies with as many requests in flight as sftp allows, in either direction.
func (t *transfer) pump(ctx context.Context, out io.Writer, in io.Reader, size int64) (int64, error) {
	if remote, ok := in.(*sftp.File); ok {
		return remote.WriteTo(&counting{ctx: ctx, meter: t.meter, out: out})
	}
	return io.Copy(out, &counting{ctx: ctx, meter: t.meter, in: in, size: size})
}

// setMetadata sets the permissions of a copy and, if asked for, its times. It sets
// the plain permissions only: no copy is setuid or setgid.
func (t *transfer) setMetadata(name string, e entry) error {
	if err := t.to.chmod(name, e.mode.Perm()); err != nil || !t.times {
		return explain(e.to, err)
	}
	return explain(e.to, t.to.chtimes(name, e.modified))
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
	if err := t.to.mkdir(e.to); err != nil {
		return explain(e.to, err)
	}
	t.made = append(t.made, e)
	return nil
}

// finishDirectories sets the metadata of directories last, and of the deepest
// first: the permissions of a directory may forbid to write in it, and each write
// changes its time.
func (t *transfer) finishDirectories(ctx context.Context) error {
	for _, e := range slices.Backward(t.made) {
		if err := t.note(ctx, e, t.setMetadata(e.to, e)); err != nil {
			return err
		}
	}
	return nil
}

// receive copies a stream of unknown length to a file, which keeps its
// permissions if it exists.
func (t *transfer) receive(ctx context.Context, in io.Reader, name string) error {
	mode := fs.FileMode(0o644)
	if info, err := t.to.stat(name); err == nil {
		mode = info.Mode()
	}
	return t.replace(name, func(temporary string) error {
		if err := t.fill(ctx, temporary, in, unknownSize); err != nil {
			return err
		}
		return t.to.chmod(temporary, mode.Perm())
	})
}

func (t *transfer) send(ctx context.Context, name string, out io.Writer) error {
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
	meter *meter
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
	c.meter.add(n)
	return n, err
}
