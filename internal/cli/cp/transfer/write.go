package transfer

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

// UnknownSize is the size of a stream.
const UnknownSize = -1

// copyFile copies a file that the Planner has found.
func (t *Transfer) copyFile(ctx context.Context, e plan.Entry) error {
	t.Meter.File(e.From)
	in, err := t.From.Open(e.From)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	err = t.write(ctx, in, e)
	if refused, ok := errors.AsType[*renameError](err); ok {
		t.discard(refused.temporary)
		return t.copyFile(ctx, e) // in place, from here on
	}
	return err
}

// Receive copies a stream of unknown length to a file. It waits for the beginning of the
// stream, so that one without any leaves a file that exists as it is.
func (t *Transfer) Receive(ctx context.Context, in io.Reader, name string) error {
	begun := bufio.NewReader(in)
	if _, err := begun.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return t.Copy(ctx, begun, plan.Entry{To: name, Mode: 0o666, Size: UnknownSize})
}

// Copy copies a stream to a file, which an entry describes.
func (t *Transfer) Copy(ctx context.Context, in io.Reader, e plan.Entry) error {
	return whole(e.To, t.write(ctx, in, e))
}

// whole says where a stream is that cannot get its name. It cannot be read once more.
func whole(name string, err error) error {
	if refused, ok := errors.AsType[*renameError](err); ok {
		why := filesystem.ReasonOf(refused.err)
		return fmt.Errorf("all of it is in %q, which cannot be renamed to %q: %s", refused.temporary, name, why)
	}
	return err
}

// write copies to a file. A new one appears under its name when it is whole. One
// that exists is written in place, and so is what a link leads to: that keeps its
// owner, permissions, hard links and access lists, of which sftp shows only some.
func (t *Transfer) write(ctx context.Context, in io.Reader, e plan.Entry) error {
	exists, err := t.exists(e.To)
	switch {
	case err != nil:
		return err
	case exists || t.inPlace.Load():
		return t.overwrite(ctx, in, e)
	}
	keep := func(err error) bool { return t.keeps(ctx, e, err) }
	return t.replace(e.To, t.temporaryFor(e), keep, func(temporary string) error {
		create := func() (io.WriteCloser, error) { return t.To.Create(temporary, e.Mode) }
		out, offset, err := t.open(ctx, temporary, in, e, create)
		if err != nil {
			return filesystem.ExplainMaking(path.Dir(e.To), err)
		}
		if err := t.fill(ctx, out, in, e, offset); err != nil {
			return err
		}
		return t.preserve(temporary, e)
	})
}

// exists reports whether there is a file of this name, or a link, which may lead to
// a file that does not exist yet.
func (t *Transfer) exists(name string) (bool, error) {
	if t.isFresh(path.Dir(name)) {
		return false, nil
	}
	info, err := t.To.Lstat(name)
	if err != nil {
		return false, nil //nolint:nilerr // the attempt to make the file says what is wrong
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if info, err = t.To.Stat(name); err != nil {
			return true, nil //nolint:nilerr // the file is made where the link leads
		}
	}
	if !info.Mode().IsRegular() {
		return true, fmt.Errorf("%q exists and is not a regular file, so nothing was written to it", name)
	}
	return true, nil
}

func (t *Transfer) overwrite(ctx context.Context, in io.Reader, e plan.Entry) error {
	create := func() (io.WriteCloser, error) { return t.To.Overwrite(e.To, e.Mode) }
	out, offset, err := t.open(ctx, e.To, in, e, create)
	if err != nil {
		return filesystem.ExplainWriting(e.To, err)
	}
	if err := t.fill(ctx, out, in, e, offset); err != nil {
		t.notes.Add("incomplete", e.To, "")
		t.keeps(ctx, e, err)
		return err
	}
	return t.preserve(e.To, e)
}

// fill writes a file from an offset on, and closes it.
func (t *Transfer) fill(ctx context.Context, out io.WriteCloser, in io.Reader, e plan.Entry, offset int64) error {
	check := t.checkOfStream(ctx, out, in, e)
	written, err := t.pump(ctx, out, in, e, offset)
	if err == nil && !filesystem.IsLocal(t.From) {
		err = check(written)
	}
	if cut, ok := out.(interface{ Truncate(size int64) error }); ok && offset > 0 && err == nil {
		err = cut.Truncate(written) // what was there may have been longer
	}
	// Some servers report a full disk only when the file is closed.
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if written < e.Size {
		return fmt.Errorf("it ended after %d of %d bytes", written, e.Size)
	}
	if filesystem.IsLocal(t.From) {
		return check(written) // a container has all of it now
	}
	return nil
}

// checkOfStream begins to take digests of a file that passes as a stream, to or from a
// container, and returns what compares them.
func (t *Transfer) checkOfStream(ctx context.Context, out, in any, e plan.Entry) func(n int64) error {
	if e.Size == UnknownSize || filesystem.IsServer(t.From) || filesystem.IsServer(t.To) {
		return func(int64) error { return nil }
	}
	return t.comparison().Start(ctx, out, in, e)
}

// makeLink makes a link in the place of a file or link. What is a directory stays.
func (t *Transfer) makeLink(e plan.Entry) error {
	beside := path.Join(path.Dir(e.To), TemporaryName())
	err := t.replace(e.To, beside, nil, func(temporary string) error { return filesystem.Explain(e.To, t.To.Link(e.Link, temporary)) })
	if refused, ok := errors.AsType[*renameError](err); ok {
		t.discard(refused.temporary)
		return filesystem.Explain(e.To, t.To.Link(e.Link, e.To))
	}
	return err
}

// replace builds a file or link under a temporary name beside its own and renames
// it, so that no reader sees half of it.
// What is left of one that fails stays only if keep says so; keep may be nil.
func (t *Transfer) replace(name, temporary string, keep func(error) bool, build func(temporary string) error) error {
	if err := build(temporary); err != nil {
		if keep == nil || !keep(err) {
			t.discard(temporary)
		}
		return err
	}
	err := t.To.Rename(temporary, name)
	switch {
	case filesystem.IsRefusal(err):
		t.inPlace.Store(true)
		return &renameError{temporary: temporary, err: err}
	case err != nil:
		t.discard(temporary)
	}
	return filesystem.Explain(name, err)
}

// TemporaryName returns a hidden name that is short enough for any directory.
func TemporaryName() string { return ".connpool-" + strings.ToLower(rand.Text()[:16]) }

// renameError says that something is complete, and could not get its name.
type renameError struct {
	temporary string
	err       error
}

func (e *renameError) Error() string {
	return fmt.Sprintf("%q cannot be renamed: %v", e.temporary, e.err)
}

func (e *renameError) Unwrap() error { return e.err }

// discard removes a temporary file, if it exists.
func (t *Transfer) discard(temporary string) {
	switch err := t.To.Remove(temporary); {
	case filesystem.IsRefusal(err):
		t.notes.Add("left behind, because it cannot be removed", temporary, filesystem.ReasonOf(err))
	case filesystem.IsConnectionLost(err):
		t.mu.Lock()
		defer t.mu.Unlock()
		t.lost = append(t.lost, temporary)
	}
}

// preserve gives a copy the permissions and times of its source, if that is asked
// for. No copy is setuid or setgid.
func (t *Transfer) preserve(name string, e plan.Entry) error {
	if !t.Times {
		return nil
	}
	if err := t.refusable(e.To, "permissions", t.To.Chmod(name, e.Mode.Perm())); err != nil {
		return err
	}
	return t.refusable(e.To, "times", t.To.Chtimes(name, e.Modified))
}

// refusable makes a note of what the destination refuses to set: the copy is good
// without it.
func (t *Transfer) refusable(name, what string, err error) error {
	if filesystem.IsRefusal(err) {
		t.notes.Add("copied, but the "+what+" cannot be set", name, filesystem.ReasonOf(err))
		return nil
	}
	return filesystem.Explain(name, err)
}
