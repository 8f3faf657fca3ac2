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
func (t *Transfer) canResume(e plan.Entry) bool {
	return e.Size >= partialBytes && (filesystem.IsServer(t.To) || filesystem.IsServer(t.From))
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
	offset, why := t.verifiedPart(ctx, name, in, e, min(info.Size(), e.Size)-unsureBytes)
	if why != "" {
		t.notes.Add("copied from its beginning, "+why, e.To, "")
	}
	if offset > 0 {
		out, err := t.To.Continue(name)
		return out, offset, err
	}
	if name != e.To {
		_ = t.To.Remove(name)
	}
	out, err := create()
	return out, 0, err
}

// verifiedPart returns n if both sides have the same n bytes at the beginning, and otherwise
// 0, and why.
func (t *Transfer) verifiedPart(ctx context.Context, name string, in io.Reader, e plan.Entry, n int64) (offset int64, why string) {
	if n <= 0 {
		return 0, ""
	}
	if t.Digests == nil {
		return 0, "because a part is only continued if it can be verified"
	}
	near, far := in, name
	if filesystem.IsServer(t.From) {
		part, err := t.To.Continue(name)
		if err != nil {
			return 0, ""
		}
		defer part.Close()
		near, far = asReader(part), e.From
	}
	file, _ := near.(io.ReaderAt)
	same, err := t.Digests.SamePrefix(ctx, file, far, n)
	switch {
	case err != nil:
		return 0, "because the other side has no openssl, sha256sum or shasum to verify the part that is there, or runs no commands"
	case !same:
		return 0, "because the part that was there is something else"
	}
	return n, ""
}

func asReader(file io.WriteCloser) io.Reader {
	reader, _ := file.(io.Reader)
	return reader
}
