package transfer

import (
	"context"
	"io"
	"path"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

const (
	// A file of partialBytes or more has a temporary name that a later copy finds again.
	partialBytes = 8 << 20
	// unsureBytes at the end of a part may have holes: so much was under way when it broke.
	unsureBytes = 16 << 20
)

// canResume reports whether a part of the file is worth keeping.
func (t *Transfer) canResume(e plan.Entry) bool { return e.Size >= partialBytes && !t.whole }

// sure returns how much of a part of some size may be without holes. What passes as a stream,
// to or from a container, has none, and a file of a container only grows at its end.
func (t *Transfer) sure(size int64, e plan.Entry) int64 {
	switch {
	case filesystem.IsServer(t.From), filesystem.IsServer(t.To):
		return min(size, e.Size) - unsureBytes
	case size <= e.Size:
		return size
	case filesystem.IsLocal(t.To):
		return e.Size
	}
	return 0
}

// temporaryFor returns under which name a new file is written.
func (t *Transfer) temporaryFor(e plan.Entry) string {
	if !t.canResume(e) {
		return path.Join(path.Dir(e.To), TemporaryName())
	}
	name := e.Part()
	if _, err := t.To.Lstat(name); err == nil && !t.wantsPart(e) { // another copy may be writing it
		return path.Join(path.Dir(e.To), TemporaryName())
	}
	return name
}

// keeps reports whether what was written before an error is worth keeping: the stream has
// ended, so that it could not be removed anyway, or the user wants to go on later.
func (t *Transfer) keeps(ctx context.Context, e plan.Entry, err error) bool {
	lost := filesystem.IsConnectionLost(err) || filesystem.IsLost(err)
	if !t.canResume(e) || !lost && (!t.Resume || ctx.Err() == nil) {
		return false
	}
	t.kept.Store(true)
	return true
}

// Kept reports whether a part of a file was kept, with which a later copy can go on.
func (t *Transfer) Kept() bool { return t.kept.Load() }

// open opens the file that is to be written, and returns how much of it is there already. It
// makes the file by create if there is no part of it that is wanted.
func (t *Transfer) open(
	ctx context.Context, name string, in io.Reader, e plan.Entry, create func() (io.WriteCloser, error),
) (io.WriteCloser, int64, error) {
	if !t.wantsPart(e) {
		out, err := create()
		return out, 0, err
	}
	info, err := t.To.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		out, err := create()
		return out, 0, err
	}
	offset, why := t.verifiedPart(ctx, name, in, e, info.Size())
	if why != "" {
		t.notes.Add("copied from its beginning, "+why, e.To, "")
	}
	if offset > 0 {
		mode := e.Mode
		if name == e.To {
			mode = 0
		}
		out, err := t.To.Continue(name, offset, mode)
		return out, offset, err
	}
	if name != e.To {
		_ = t.To.Remove(name)
	}
	out, err := create()
	return out, 0, err
}

// verifiedPart returns how much of a part of some size both sides have, or 0, and why.
func (t *Transfer) verifiedPart(ctx context.Context, name string, in io.Reader, e plan.Entry, size int64) (offset int64, why string) {
	near, there := in, name
	if !filesystem.IsLocal(t.From) {
		part, err := t.To.Continue(name, 0, 0)
		if err != nil {
			return 0, ""
		}
		defer part.Close()
		near, _ = part.(io.Reader)
		there = e.From
	}
	if size > 0 {
		size = max(0, t.sure(size, e))
	}
	file, _ := near.(io.ReaderAt)
	return t.Digests.Part(ctx, file, there, size)
}
