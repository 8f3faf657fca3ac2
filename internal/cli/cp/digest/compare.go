package digest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/notes"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

// largeBytes is from which size on a file is compared by itself, before it gets its name.
const largeBytes = 256 << 10

// Comparison compares the files of a copy, and counts how. Its methods may be called at the
// same time.
type Comparison struct {
	tool  *Tool // nil for sizes only
	from  filesystem.Source
	notes *notes.Notes

	// together says that large files are compared with the small ones, too.
	together         bool
	byDigest, bySize atomic.Int64

	mu      sync.Mutex // guards what follows
	arrived []arrived
}

// Compare returns the comparison of a copy from a side, of which the tool takes the digests on
// the other machine. Without a tool, files are known by their sizes only.
func Compare(tool *Tool, from filesystem.Source, to *notes.Notes) *Comparison {
	return &Comparison{tool: tool, from: from, notes: to}
}

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

// start takes a digest beside what else is done.
func start(take func() (string, error)) <-chan hashed {
	taken := make(chan hashed, 1)
	go func() {
		sum, err := take()
		taken <- hashed{sum, err}
	}()
	return taken
}

// Start begins to take the digest of the source of a large file while it is copied, and
// returns what compares it with that of the n bytes that have arrived.
func (c *Comparison) Start(ctx context.Context, out, in any, e plan.Entry) func(n int64) error {
	if c.tool == nil {
		return func(int64) error { return nil }
	}
	up := filesystem.IsLocal(c.from)
	near, _ := in.(io.ReaderAt)
	if !up {
		near, _ = out.(io.ReaderAt)
	}
	if near == nil || c.together || e.Size <= largeBytes {
		return func(n int64) error { return c.Remember(near, n, e) }
	}
	source := start(func() (string, error) {
		if up {
			return Of(near, e.Size)
		}
		return c.there(ctx, e.From)
	})
	return func(n int64) error {
		var here, there string
		var errHere, errThere error
		taken := <-source
		if up {
			if here, errHere = taken.sum, taken.err; n != e.Size {
				here, errHere = Of(near, n)
			}
			there, errThere = c.there(ctx, nameOf(out))
		} else {
			there, errThere = taken.sum, taken.err
			here, errHere = Of(near, n)
		}
		return c.compare(ctx, e, here, there, n, errors.Join(errHere, errThere))
	}
}

// nameOf returns the name of an open file.
func nameOf(file any) string {
	named, _ := file.(interface{ Name() string })
	return named.Name()
}

// there returns the digest of a file of the other machine.
func (c *Comparison) there(ctx context.Context, name string) (string, error) {
	sums, err := c.tool.Files(ctx, []string{name})
	if err != nil {
		return "", err
	}
	return sums[0], nil
}

// compare returns an error if two digests differ, and the source is still what it was. If
// there are none, the file is known by its size only.
func (c *Comparison) compare(ctx context.Context, e plan.Entry, here, there string, n int64, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		c.bySize.Add(1)
		return nil //nolint:nilerr // not to be able to take a digest is no failure of the copy
	case here == there:
		c.byDigest.Add(1)
		return nil
	}
	if now, err := c.from.Stat(e.From); err == nil && (now.Size() != e.Size || !now.ModTime().Equal(e.Modified) || n != e.Size) {
		c.notes.Add("changed while it was copied, so it was not verified", e.From, "")
		c.bySize.Add(1)
		return nil
	}
	return errDiffers
}

// Together has all files compared in one go, as those of a tree that comes as one stream.
func (c *Comparison) Together() { c.together = true }

// Remember keeps the digest of a file, to compare it with all others in one go.
func (c *Comparison) Remember(near io.ReaderAt, n int64, e plan.Entry) error {
	if near == nil || c.tool == nil {
		return nil
	}
	sum, err := Of(near, n)
	if err != nil {
		c.bySize.Add(1)
		return nil // a file that can only be written was copied nevertheless
	}
	a := arrived{entry: e, there: e.From, sum: sum}
	if filesystem.IsLocal(c.from) {
		a.there = e.To
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived = append(c.arrived, a)
	return nil
}

// Small compares the digests of all small files with those of the other machine, and calls
// differs for each file that is something else.
func (c *Comparison) Small(ctx context.Context, differs func(plan.Entry, error) error) error {
	if len(c.arrived) == 0 {
		return nil
	}
	names := make([]string, len(c.arrived))
	for i, a := range c.arrived {
		names[i] = a.there
	}
	sums, err := c.tool.Files(ctx, names)
	if err != nil {
		c.bySize.Add(int64(len(names)))
		return ctx.Err()
	}
	for i, a := range c.arrived {
		if err := differs(a.entry, c.compare(ctx, a.entry, a.sum, sums[i], a.entry.Size, nil)); err != nil {
			return err
		}
	}
	return nil
}

// String says how the files that were copied were verified, such as "verified by SHA-256".
func (c *Comparison) String() string {
	byDigest, bySize := c.byDigest.Load(), c.bySize.Load()
	switch {
	case byDigest == 0:
		return "verified by size"
	case bySize == 0:
		return "verified by SHA-256"
	}
	return fmt.Sprintf("%d verified by SHA-256, %d by size", byDigest, bySize)
}

// Part returns n if a file of this machine and one of the other have the same n bytes at
// their beginning, and otherwise 0, and why. Less than 0 means that n is not known.
func (t *Tool) Part(ctx context.Context, near io.ReaderAt, there string, n int64) (offset int64, why string) {
	switch {
	case n == 0:
		return 0, ""
	case n < 0:
		return 0, "because the container has no stat that says how long the part is"
	case t == nil:
		return 0, "because a part is only continued if it can be verified"
	}
	switch same, err := t.SamePrefix(ctx, near, there, n); {
	case err != nil:
		return 0, "because the other side has no openssl, sha256sum or shasum to verify the part that is there, or runs no commands"
	case !same:
		return 0, "because the part that was there is something else"
	}
	return n, ""
}

// SamePrefix reports whether a file of this machine, and one of the other, have the same n
// bytes at their beginning.
func (t *Tool) SamePrefix(ctx context.Context, near io.ReaderAt, there string, n int64) (bool, error) {
	if near == nil || t == nil {
		return false, ErrNone
	}
	here := start(func() (string, error) { return Of(near, n) })
	sum, err := t.Prefix(ctx, there, n)
	taken := <-here
	return err == nil && taken.err == nil && taken.sum == sum, errors.Join(err, taken.err)
}
