// Package transfer copies files from one file system to another, of which one is on this
// machine and the other is not trusted.
//
//	t := &transfer.Transfer{From: source, To: destination}
//	failed, err := t.Run(ctx, planner.Entries)
//
// It copies many files at a time. A new file is written under a temporary name and renamed
// when it is complete, so that no reader sees half of it. One that exists is written in
// place, so that it keeps its owner, permissions and links. A tree may come and go as a
// tar stream instead, by Unpack and Pack.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/notes"
	"github.com/connpool/connpool/internal/cli/cp/plan"
	"github.com/connpool/connpool/internal/cli/cp/progress"
)

// filesAtOnce hides the round trips of small files, of which a new one takes four: open,
// write, close and rename.
const filesAtOnce = 96

// A file of more than largeBytes keeps a connection busy by itself, and largeAtOnce of
// them bound the memory of their pieces.
const (
	largeBytes  = 256 << 10
	largeAtOnce = 4
)

// Transfer carries out a plan.
type Transfer struct {
	From filesystem.Source
	To   filesystem.Destination
	// Times are preserved as well as permissions.
	Times bool
	// Resume goes on with a part of a large file that an earlier copy has left.
	Resume bool
	// Digests verifies what has arrived; nil for sizes only.
	Digests *digest.Tool
	// Meter counts what passes.
	Meter *progress.Meter

	// inPlace says that the destination refuses to rename.
	inPlace atomic.Bool
	// kept says that a part of a file was kept.
	kept atomic.Bool
	// compare is what comparison returns.
	compare     *digest.Comparison
	compareOnce sync.Once
	notes       notes.Notes

	unpacked int  // by Unpack
	whole    bool // what comes cannot be continued: it is a part of one stream

	mu     sync.Mutex
	failed []error      // of single files
	made   []plan.Entry // directories that did not exist before, the outermost first
	// fresh are their names. What is written in one finds nothing of its name.
	fresh map[string]bool
	// lost are temporary files that could not be removed because their stream broke.
	lost []string
}

// Run copies everything. It goes on after the failure of a single file, and
// returns those failures; the error is what ended the whole transfer.
func (t *Transfer) Run(ctx context.Context, entries []plan.Entry) ([]error, error) {
	files, err := t.makeDirectories(ctx, entries)
	if err != nil {
		return t.failed, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(filesAtOnce)
	large := make(chan struct{}, largeAtOnce)
	for _, e := range files {
		group.Go(func() error {
			if e.Size > largeBytes {
				large <- struct{}{}
				defer func() { <-large }()
			}
			return t.note(groupCtx, e, t.persist(groupCtx, e))
		})
	}
	if err := group.Wait(); err != nil {
		return t.failed, err
	}
	if err := t.compareSmall(ctx); err != nil {
		return t.failed, err
	}
	return t.failed, t.finishDirectories(ctx)
}

// CompareArrived compares what Pack has sent, once it has its place, and returns which files
// are something else.
func (t *Transfer) CompareArrived(ctx context.Context) ([]error, error) {
	before := len(t.failed)
	err := t.compareSmall(ctx)
	return t.failed[before:], err
}

// compareSmall compares the small files that were copied.
func (t *Transfer) compareSmall(ctx context.Context) error {
	return t.comparison().Small(ctx, func(e plan.Entry, err error) error { return t.note(ctx, e, err) })
}

// comparison verifies what has arrived.
func (t *Transfer) comparison() *digest.Comparison {
	t.compareOnce.Do(func() { t.compare = digest.Compare(t.Digests, t.From, &t.notes) })
	return t.compare
}

// Verified says how the files that were copied were verified, such as "verified by SHA-256".
func (t *Transfer) Verified() string { return t.comparison().String() }

// ShowNotes prints what a user should know about the files that were copied.
func (t *Transfer) ShowNotes(out io.Writer) { t.notes.Show(out) }

// makeDirectories makes the directories of a plan, and returns what else there is to
// copy. Those that are equally deep are made at the same time. What is in a directory that
// cannot be made stays behind with it.
func (t *Transfer) makeDirectories(ctx context.Context, entries []plan.Entry) (files []plan.Entry, err error) {
	if len(entries) > 0 && entries[0].Mode.IsDir() {
		if err := t.makeDirectory(entries[0], true); err != nil {
			return nil, t.note(ctx, entries[0], behind(err))
		}
		entries = entries[1:]
	}
	lost := map[string]bool{}
	for _, level := range plan.Levels(entries) {
		missing, err := t.makeLevel(ctx, level, lost)
		if err != nil {
			return nil, err
		}
		for _, name := range missing {
			lost[name] = true
		}
	}
	for _, e := range entries {
		if !e.Mode.IsDir() && !lost[path.Dir(e.To)] {
			files = append(files, e)
		}
	}
	return files, nil
}

func behind(err error) error { return fmt.Errorf("%w, so nothing in it was copied", err) }

// makeLevel makes directories of which none is in another, and returns which of them do
// not exist.
func (t *Transfer) makeLevel(ctx context.Context, level []plan.Entry, lost map[string]bool) (missing []string, err error) {
	errs := make([]error, len(level))
	var group errgroup.Group
	group.SetLimit(filesAtOnce)
	for i, e := range level {
		if lost[path.Dir(e.To)] {
			missing = append(missing, e.To)
			continue
		}
		group.Go(func() error {
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = t.makeDirectory(e, false)
			}
			return nil
		})
	}
	_ = group.Wait() // it has none
	for i, e := range level {
		if errs[i] == nil {
			continue
		}
		if err := t.note(ctx, e, behind(errs[i])); err != nil {
			return nil, err
		}
		missing = append(missing, e.To)
	}
	return missing, nil
}

func (t *Transfer) copy(ctx context.Context, e plan.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Mode&fs.ModeSymlink != 0 {
		return t.makeLink(e)
	}
	return t.copyFile(ctx, e)
}

// note keeps the failure of a file, and returns an error that ends the transfer.
func (t *Transfer) note(ctx context.Context, e plan.Entry, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case filesystem.IsConnectionLost(err), filesystem.IsLost(err):
		return fmt.Errorf("copy %q: %w", e.From, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, filesystem.Explain(e.From, err))
	return nil
}

// pump copies with as many requests in flight as sftp allows, in either direction.
func (t *Transfer) pump(ctx context.Context, out io.Writer, in io.Reader, e plan.Entry, offset int64) (int64, error) {
	if n, ok, err := t.inPieces(ctx, out, in, e, offset); ok {
		return n, err
	}
	if remote, ok := in.(*sftp.File); ok {
		return remote.WriteTo(t.Meter.Writer(ctx, out))
	}
	if offset > 0 {
		seeker, ok := in.(io.Seeker)
		if !ok {
			return 0, errors.ErrUnsupported
		}
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			return 0, err
		}
	}
	t.Meter.Begin(e.To, offset)
	n, err := io.Copy(out, t.Meter.Reader(ctx, in, e.Size))
	return offset + n, err
}

// makeDirectory makes a directory unless it exists. Only the directory that the
// user has named may be a link to one.
func (t *Transfer) makeDirectory(e plan.Entry, named bool) error {
	exists, err := t.directoryExists(e, named)
	if err != nil {
		return err
	}
	if !exists {
		if err := t.To.Mkdir(e.To, e.Mode|ownerMayFill); err != nil {
			return filesystem.Explain(e.To, err)
		}
		t.rememberDirectory(e)
	}
	if named {
		return filesystem.Explain(e.To, t.To.Enter(e.To))
	}
	return nil
}

func (t *Transfer) directoryExists(e plan.Entry, named bool) (bool, error) {
	look := t.To.Lstat
	switch {
	case named:
		look = t.To.Stat
	case t.isFresh(path.Dir(e.To)):
		return false, nil
	}
	info, err := look(e.To)
	if err == nil && !info.IsDir() {
		return false, fmt.Errorf("%q is in the way", e.To)
	}
	return err == nil, nil
}

// rememberDirectory keeps a directory that did not exist before.
func (t *Transfer) rememberDirectory(e plan.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fresh == nil {
		t.fresh = map[string]bool{}
	}
	t.made, t.fresh[e.To] = append(t.made, e), true
}

// isFresh reports whether a directory is one that this transfer has made.
func (t *Transfer) isFresh(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fresh[name]
}

// ownerMayFill are the permissions that a directory needs while it is filled.
const ownerMayFill fs.FileMode = 0o700

// finishDirectories sets the metadata of directories last, and of the deepest
// first: the permissions of a directory may forbid to write in it, and each write
// changes its time.
func (t *Transfer) finishDirectories(ctx context.Context) error {
	for _, level := range slices.Backward(plan.Levels(t.made)) {
		group := errgroup.Group{}
		group.SetLimit(filesAtOnce)
		for _, e := range level {
			group.Go(func() error { return t.note(ctx, e, t.finishDirectory(e)) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Transfer) finishDirectory(e plan.Entry) error {
	lent := ownerMayFill &^ e.Mode
	if t.Times || lent == 0 {
		return t.preserve(e.To, e)
	}
	info, err := t.To.Lstat(e.To)
	if err != nil {
		return filesystem.Explain(e.To, err)
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
	_, err = t.pump(ctx, out, in, plan.Entry{From: name, Size: UnknownSize}, 0)
	return err
}
