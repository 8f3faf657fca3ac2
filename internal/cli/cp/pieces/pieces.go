// Package pieces copies one file in pieces, of which many are under way at once, so that it
// waits for few round trips.
//
//	c := &pieces.Copy{From: []io.ReaderAt{local}, To: []io.WriterAt{remote}, Bytes: 32 << 10}
//	end, err := c.Run(ctx, 0, size)
package pieces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// laneBytes is how much is under way on one stream: twice the window of a channel, so
// that the window is the limit.
const laneBytes = 4 << 20

// Copy is the copy of one file.
type Copy struct {
	// From and To are handles of the same file, each on a stream of its own. One of the two
	// is on this machine, and has one.
	From []io.ReaderAt
	To   []io.WriterAt
	// Bytes is how long a piece is.
	Bytes int
	// Done is told how many bytes more were written.
	Done func(n int)

	next atomic.Int64 // where the next piece begins
	end  atomic.Int64 // where the source ends, as far as that is known
	// reached is the end of the farthest piece that was written.
	reached atomic.Int64
}

// Run copies from an offset on, and returns where the source ends.
func (c *Copy) Run(ctx context.Context, offset, size int64) (int64, error) {
	c.next.Store(offset)
	c.reached.Store(offset)
	c.end.Store(math.MaxInt64)
	atOnce := min(int64(laneBytes/c.Bytes*max(len(c.From), len(c.To))), max(size-offset, 0)/int64(c.Bytes)+1)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range int(atOnce) {
		group.Go(func() error { return c.work(groupCtx, c.From[i%len(c.From)], c.To[i%len(c.To)]) })
	}
	err := group.Wait()
	if err == nil {
		err = ctx.Err() // what the user has ended is not given its name
	}
	if err != nil {
		return c.reached.Load(), err
	}
	if end := c.end.Load(); c.reached.Load() > end {
		return end, fmt.Errorf("it became shorter while it was being copied: it ended after %d bytes", end)
	}
	return c.end.Load(), nil
}

// work copies pieces until the source ends.
func (c *Copy) work(ctx context.Context, from io.ReaderAt, to io.WriterAt) error {
	buffer := make([]byte, c.Bytes)
	for {
		offset := c.next.Add(int64(c.Bytes)) - int64(c.Bytes)
		if offset >= c.end.Load() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(buffer, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n > 0 {
			if _, err := to.WriteAt(buffer[:n], offset); err != nil {
				return err
			}
			c.Done(n)
			raise(&c.reached, offset+int64(n))
		}
		if err != nil {
			lower(&c.end, offset+int64(n))
			return nil //nolint:nilerr // it is the end
		}
	}
}

// Size returns how large the pieces of a file are, of which requests carry so many bytes at
// most.
func Size(most int, size int64) int {
	if size <= 1 {
		return most // files of the kernel claim to be empty
	}
	return int(min(size, int64(most)))
}

func raise(value *atomic.Int64, to int64) {
	for old := value.Load(); old < to && !value.CompareAndSwap(old, to); {
		old = value.Load()
	}
}

func lower(value *atomic.Int64, to int64) {
	for old := value.Load(); old > to && !value.CompareAndSwap(old, to); {
		old = value.Load()
	}
}
