package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

// arrived is a small file whose digest the other side has not said yet.
type arrived struct {
	entry plan.Entry
	// there is its name on the other machine, and sum the digest of it on this one.
	there, sum string
}

// errDiffers says that a file has arrived, but as something else.
var errDiffers = errors.New("what arrived is not what was sent: the SHA-256 of the two sides differ; copy it again")

// hashed is a digest that is being taken.
type hashed struct {
	sum string
	err error
}

func startHash(take func() (string, error)) <-chan hashed {
	taken := make(chan hashed, 1)
	go func() {
		sum, err := take()
		taken <- hashed{sum, err}
	}()
	return taken
}

// startCheck begins to take the digest of the source of a large file while it is copied, and
// returns what compares it with that of the n bytes that have arrived.
func (t *Transfer) startCheck(ctx context.Context, out, in any, e plan.Entry) func(n int64) error {
	if t.Digests == nil {
		return func(int64) error { return nil }
	}
	up := filesystem.IsServer(t.To)
	near, _ := in.(io.ReaderAt)
	if !up {
		near, _ = out.(io.ReaderAt)
	}
	if near == nil || e.Size <= largeBytes {
		return func(n int64) error { return t.remember(near, n, e, up) }
	}
	source := startHash(func() (string, error) {
		if up {
			return digest.Of(near, e.Size)
		}
		return t.there(ctx, e.From)
	})
	return func(n int64) error {
		var here, there string
		var errHere, errThere error
		taken := <-source
		if up {
			if here, errHere = taken.sum, taken.err; n != e.Size {
				here, errHere = digest.Of(near, n)
			}
			there, errThere = t.there(ctx, nameOf(out))
		} else {
			there, errThere = taken.sum, taken.err
			here, errHere = digest.Of(near, n)
		}
		return t.compare(ctx, e, here, there, n, errors.Join(errHere, errThere))
	}
}

// nameOf returns the name of an open file.
func nameOf(file any) string {
	named, _ := file.(interface{ Name() string })
	return named.Name()
}

// there returns the digest of a file of the other machine.
func (t *Transfer) there(ctx context.Context, name string) (string, error) {
	sums, err := t.Digests.Files(ctx, []string{name})
	if err != nil {
		return "", err
	}
	return sums[0], nil
}

// compare returns an error if two digests differ, and the source is still what it was. If
// there are none, the file is known by its size only.
func (t *Transfer) compare(ctx context.Context, e plan.Entry, here, there string, n int64, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		t.bySize.Add(1)
		return nil //nolint:nilerr // not to be able to take a digest is no failure of the copy
	case here == there:
		t.byDigest.Add(1)
		return nil
	}
	if now, err := t.From.Stat(e.From); err == nil && (now.Size() != e.Size || !now.ModTime().Equal(e.Modified) || n != e.Size) {
		t.notes.Add("changed while it was copied, so it was not verified", e.From, "")
		t.bySize.Add(1)
		return nil
	}
	return errDiffers
}

// remember keeps the digest of a small file, to compare it with all others in one go.
func (t *Transfer) remember(near io.ReaderAt, n int64, e plan.Entry, up bool) error {
	if near == nil {
		return nil
	}
	sum, err := digest.Of(near, n)
	if err != nil {
		t.bySize.Add(1)
		return nil // a file that can only be written was copied nevertheless
	}
	a := arrived{entry: e, there: e.From, sum: sum}
	if up {
		a.there = e.To
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrived = append(t.arrived, a)
	return nil
}

// compareSmall compares the digests of all small files with those of the other machine.
func (t *Transfer) compareSmall(ctx context.Context) error {
	if len(t.arrived) == 0 {
		return nil
	}
	names := make([]string, len(t.arrived))
	for i, a := range t.arrived {
		names[i] = a.there
	}
	sums, err := t.Digests.Files(ctx, names)
	if err != nil {
		t.bySize.Add(int64(len(names)))
		return ctx.Err()
	}
	for i, a := range t.arrived {
		if err := t.note(ctx, a.entry, t.compare(ctx, a.entry, a.sum, sums[i], a.entry.Size, nil)); err != nil {
			return err
		}
	}
	return nil
}

// Verified says how the files that were copied were verified, such as "verified by SHA-256".
func (t *Transfer) Verified() string {
	byDigest, bySize := t.byDigest.Load(), t.bySize.Load()
	switch {
	case byDigest == 0:
		return "verified by size"
	case bySize == 0:
		return "verified by SHA-256"
	}
	return fmt.Sprintf("%d verified by SHA-256, %d by size", byDigest, bySize)
}
