package cp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/pkg/sftp"
)

// unknownSize is the size of a stream.
const unknownSize = -1

// copyFile copies a file that the planner has found.
func (t *transfer) copyFile(ctx context.Context, e entry) error {
	in, err := t.from.open(e.from)
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

// receive copies a stream of unknown length to a file.
func (t *transfer) receive(ctx context.Context, in io.Reader, name string) error {
	err := t.write(ctx, in, entry{to: name, mode: 0o666, size: unknownSize})
	if refused, ok := errors.AsType[*renameError](err); ok {
		return fmt.Errorf("all of it is in %q, which cannot be renamed to %q: %s", refused.temporary, name, reasonOf(refused.err))
	}
	return err
}

// write copies to a file. A new one appears under its name when it is whole. One
// that exists is written in place, and so is what a link leads to: that keeps its
// owner, permissions, hard links and access lists, of which sftp shows only some.
func (t *transfer) write(ctx context.Context, in io.Reader, e entry) error {
	exists, err := t.exists(e.to)
	switch {
	case err != nil:
		return err
	case exists || t.inPlace.Load():
		return t.overwrite(ctx, in, e)
	}
	return t.replace(e.to, func(temporary string) error {
		out, err := t.to.create(temporary, e.mode)
		if err != nil {
			return explainMaking(path.Dir(e.to), err)
		}
		if err := t.fill(ctx, out, in, e.size); err != nil {
			return err
		}
		return t.preserve(temporary, e)
	})
}

// exists reports whether there is a file of this name, or a link, which may lead to
// a file that does not exist yet.
func (t *transfer) exists(name string) (bool, error) {
	info, err := t.to.lstat(name)
	if err != nil {
		return false, nil //nolint:nilerr // the attempt to make the file says what is wrong
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if info, err = t.to.stat(name); err != nil {
			return true, nil //nolint:nilerr // the file is made where the link leads
		}
	}
	if !info.Mode().IsRegular() {
		return true, fmt.Errorf("%q exists and is no file, so nothing is written to it", name)
	}
	return true, nil
}

func (t *transfer) overwrite(ctx context.Context, in io.Reader, e entry) error {
	out, err := t.to.overwrite(e.to, e.mode)
	if err != nil {
		return explainWriting(e.to, err)
	}
	if err := t.fill(ctx, out, in, e.size); err != nil {
		t.notes.add("incomplete", e.to, "")
		return err
	}
	return t.preserve(e.to, e)
}

func (t *transfer) fill(ctx context.Context, out io.WriteCloser, in io.Reader, size int64) error {
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

// makeLink makes a link in the place of a file or link. What is a directory stays.
func (t *transfer) makeLink(e entry) error {
	err := t.replace(e.to, func(temporary string) error { return explain(e.to, t.to.link(e.link, temporary)) })
	if refused, ok := errors.AsType[*renameError](err); ok {
		t.discard(refused.temporary)
		return explain(e.to, t.to.link(e.link, e.to))
	}
	return err
}

// replace builds a file or link under a temporary name beside its own and renames
// it, so that no reader sees half of it.
func (t *transfer) replace(name string, build func(temporary string) error) error {
	temporary := path.Join(path.Dir(name), temporaryName())
	if err := build(temporary); err != nil {
		t.discard(temporary)
		return err
	}
	err := t.to.rename(temporary, name)
	switch {
	case isRefusal(err):
		t.inPlace.Store(true)
		return &renameError{temporary: temporary, err: err}
	case err != nil:
		t.discard(temporary)
	}
	return explain(name, err)
}

// temporaryName returns a hidden name that is short enough for any directory.
func temporaryName() string { return ".connpool-" + strings.ToLower(rand.Text()[:16]) }

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
func (t *transfer) discard(temporary string) {
	if err := t.to.remove(temporary); isRefusal(err) {
		t.notes.add("left behind, because it cannot be removed", temporary, reasonOf(err))
	}
}

// preserve gives a copy the permissions and times of its source, if that is asked
// for. No copy is setuid or setgid.
func (t *transfer) preserve(name string, e entry) error {
	if !t.times {
		return nil
	}
	if err := t.refusable(e.to, "permissions", t.to.chmod(name, e.mode.Perm())); err != nil {
		return err
	}
	return t.refusable(e.to, "times", t.to.chtimes(name, e.modified))
}

// refusable makes a note of what the destination refuses to set: the copy is good
// without it.
func (t *transfer) refusable(name, what string, err error) error {
	if isRefusal(err) {
		t.notes.add("copied, but the "+what+" cannot be set", name, reasonOf(err))
		return nil
	}
	return explain(name, err)
}

// isRefusal reports whether a file system does not do something that others do: it
// is not permitted, or it is not offered.
func isRefusal(err error) bool {
	status, ok := errors.AsType[*sftp.StatusError](err)
	return errors.Is(err, fs.ErrPermission) || ok && status.FxCode() == sftp.ErrSSHFxOpUnsupported
}

// reasonOf returns the words for a refusal.
func reasonOf(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "permission denied"
	}
	return err.Error()
}

func explainMaking(directory string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("no file can be made in the directory %q: permission denied", directory)
	}
	return explain(directory, err)
}

func explainWriting(name string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%q exists, but may not be written: permission denied", name)
	}
	return explain(name, err)
}
