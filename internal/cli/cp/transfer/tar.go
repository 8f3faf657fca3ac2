package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/plan"
	"github.com/connpool/connpool/internal/cli/cp/tarstream"
)

// Pack writes the entries of a plan as a stream, with an empty file at its end. A file
// that cannot be opened stays behind, and is returned. Without Times, modes are passed to umask.
func (t *Transfer) Pack(
	ctx context.Context, out *tarstream.Writer, entries []plan.Entry, umask func(fs.FileMode) fs.FileMode,
) ([]error, error) {
	packed := func(e plan.Entry) *tarstream.Entry {
		mode := e.Mode
		if !t.Times {
			mode = e.Mode.Type() | umask(e.Mode)
		}
		name := path.Join(tarstream.Tree, strings.TrimPrefix(e.To, entries[0].To))
		return &tarstream.Entry{Name: name, Mode: mode, Size: e.Size, Modified: e.Modified, Link: e.Link}
	}
	for _, e := range entries {
		if err := t.packOne(ctx, out, e, packed(e)); err != nil {
			return t.failed, err
		}
	}
	// Directories once more: some tars set their times before they fill them.
	for _, e := range slices.Backward(entries) {
		if !e.Mode.IsDir() {
			continue
		}
		if err := out.Add(packed(e)); err != nil {
			return t.failed, err
		}
	}
	if err := out.Add(&tarstream.Entry{Name: tarstream.End}); err != nil {
		return t.failed, err
	}
	return t.failed, out.Close()
}

func (t *Transfer) packOne(ctx context.Context, out *tarstream.Writer, e plan.Entry, packed *tarstream.Entry) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !e.Mode.IsRegular():
		if e.Mode.IsDir() {
			packed.Mode |= ownerMayFill
		}
		return out.Add(packed)
	}
	t.Meter.File(e.From)
	in, err := t.From.Open(e.From)
	if err != nil {
		t.failed = append(t.failed, filesystem.Explain(e.From, err))
		return nil
	}
	defer func() { _ = in.Close() }()
	if err := out.Add(packed); err != nil {
		return err
	}
	written, err := t.pump(ctx, out, io.LimitReader(in, e.Size), e, 0)
	switch {
	case err != nil:
		return err
	case written < e.Size:
		return fmt.Errorf("%q became shorter while it was being copied: nothing was changed in the container", e.From)
	}
	near, _ := in.(io.ReaderAt)
	return t.comparison().Remember(near, written, e)
}

// Unpack writes the tree that comes as a stream to a name of this machine. Its error is what ended it; the
// failures of single files are returned beside it. In messages the tree is called from.
func (t *Transfer) Unpack(ctx context.Context, in *tarstream.Reader, from string, local *filesystem.Local, to string) ([]error, error) {
	t.To, t.whole = local, true
	t.comparison().Together()
	u := &unpacking{Transfer: t, local: local, from: from, to: to, dirs: map[string]bool{}, files: map[string]bool{}}
	defer func() { t.unpacked = len(u.files) }()
	for {
		item, err := in.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			if err = t.compareSmall(ctx); err == nil {
				err = t.finishDirectories(ctx)
			}
			return t.failed, err
		}
		if err == nil {
			err = u.add(ctx, in, item)
		}
		if err != nil {
			return t.failed, err
		}
	}
}

// Unpacked returns how many files Unpack has written.
func (t *Transfer) Unpacked() int { return t.unpacked }

// unpacking writes the tree that a container sends.
type unpacking struct {
	*Transfer

	local    *filesystem.Local
	from, to string
	// dirs are the directories that the stream has named, and whether they could be
	// made. What is in one that could not stays behind with it.
	dirs map[string]bool
	// files are those that were written, and may get further names.
	files map[string]bool
	// broken is the error of the stream.
	broken error
}

// add writes one entry. Its error ends the copy; that of a single file is noted.
func (u *unpacking) add(ctx context.Context, in io.Reader, item *tarstream.Entry) error {
	made, known := u.dirs[path.Dir(item.Name)]
	first := len(u.dirs) == 0
	switch {
	case first != (item.Name == ".") || first && !item.Mode.IsDir() || !first && !known:
		return fmt.Errorf("the container sent %.200q out of order: it cannot be trusted, and nothing more was copied", item.Name)
	case !first && !made:
		u.dirs[item.Name] = false
		return nil
	}
	e := plan.Entry{
		From: path.Join(u.from, item.Name), To: path.Join(u.to, item.Name), Mode: item.Mode, Size: item.Size,
		Modified: item.Modified, Link: item.Link,
	}
	err := u.writeEntry(ctx, in, item, e)
	switch {
	case u.broken != nil:
		return u.broken
	case item.Mode.IsDir():
		u.dirs[item.Name] = err == nil
	case err == nil && item.Mode.IsRegular():
		u.files[item.Name] = true
	}
	if first {
		return err
	}
	return u.note(ctx, e, err)
}

func (u *unpacking) writeEntry(ctx context.Context, in io.Reader, item *tarstream.Entry, e plan.Entry) error {
	switch {
	case item.Left != nil:
		return item.Left
	case item.Mode.IsDir():
		if err := u.makeDirectory(e, item.Name == "."); err != nil {
			return fmt.Errorf("%w, so nothing in it was copied", err)
		}
		return nil
	case item.Same != "":
		return u.again(e, item.Same)
	case item.Mode&fs.ModeSymlink != 0:
		return u.makeLink(e)
	}
	u.Meter.File(e.From)
	return u.Copy(ctx, &arriving{Reader: in, broken: &u.broken}, e)
}

// again makes a further name of a file that was written before.
func (u *unpacking) again(e plan.Entry, name string) error {
	if !u.files[name] {
		return fmt.Errorf("it is listed as the same file as %.200q, which was not copied", name)
	}
	beside := path.Join(path.Dir(e.To), TemporaryName())
	return u.replace(e.To, beside, nil, func(temporary string) error { return u.local.Again(path.Join(u.to, name), temporary) })
}

// arriving keeps the error of a stream apart from those of the files that it becomes.
type arriving struct {
	io.Reader

	broken *error
}

// Read implements io.Reader.
func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		*a.broken = err
	}
	return n, err
}
