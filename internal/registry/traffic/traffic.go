// Package traffic counts the bytes that uses transfer, while they do.
package traffic

import (
	"io"
	"sync/atomic"

	"github.com/connpool/connpool/internal/driver"
)

// Bytes counts them: In goes to the target, Out comes from it.
type Bytes struct{ In, Out atomic.Int64 }

// Counts returns how many there were so far.
func (t *Bytes) Counts() (in, out int64) { return t.In.Load(), t.Out.Load() }

// Count puts counters around streams.
func (t *Bytes) Count(streams driver.Streams) driver.Streams {
	if streams.Stdin != nil {
		streams.Stdin = Reader{streams.Stdin, &t.In}
	}
	if streams.Stdout != nil {
		streams.Stdout = writer{streams.Stdout, &t.Out}
	}
	if streams.Stderr != nil {
		streams.Stderr = writer{streams.Stderr, &t.Out}
	}
	return streams
}

// Reader adds to N what is read.
type Reader struct {
	io.Reader

	N *atomic.Int64
}

// Read implements io.Reader.
func (r Reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.N.Add(int64(n))
	return n, err
}

type writer struct {
	io.Writer

	n *atomic.Int64
}

func (w writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n.Add(int64(n))
	return n, err
}
