package pieces

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// shrinking is a source that ends after its second byte, once a later one was read.
type shrinking struct{ read chan struct{} }

func (s shrinking) ReadAt(p []byte, offset int64) (int, error) {
	switch offset {
	case 0:
		return copy(p, "01"), nil
	case 2:
		<-s.read
		return 0, io.EOF
	}
	return copy(p, "xx"), nil
}

// written tells when something was written behind the second byte.
type written struct {
	tell func()
}

func (w written) WriteAt(p []byte, offset int64) (int, error) {
	if offset > 2 {
		w.tell()
	}
	return len(p), nil
}

type failing struct{}

func (failing) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

func TestAFileArrivesInPieces(t *testing.T) {
	const text = "what a file holds"
	for name, c := range map[string]struct {
		from io.ReaderAt
		to   io.WriterAt // a file if nil
		size int64
		want string
		err  error
	}{
		"as it is":                          {from: strings.NewReader(text), size: int64(len(text)), want: text},
		"longer than it was said to be":     {from: strings.NewReader(text), size: 3, want: text},
		"shorter than it was said to be":    {from: strings.NewReader(text), size: 1000, want: text},
		"empty":                             {from: strings.NewReader(""), want: ""},
		"a destination that cannot be used": {from: strings.NewReader(text), to: failing{}, size: 3, err: os.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := os.Create(t.TempDir() + "/file")
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close() //nolint:errcheck // a test
			if c.to == nil {
				c.to = file
			}
			sum := make(chan int, 100)
			// Two lanes, and pieces that do not fit evenly.
			copying := &Copy{From: []io.ReaderAt{c.from, c.from}, To: []io.WriterAt{c.to}, Bytes: 5, Done: func(n int) { sum <- n }}
			end, err := copying.Run(t.Context(), 0, c.size)
			got, _ := os.ReadFile(file.Name())
			if !errors.Is(err, c.err) || string(got) != c.want || err == nil && end != int64(len(c.want)) {
				t.Errorf("%d bytes, %q, error %v; want %q, error %v", end, got, err, c.want, c.err)
			}
		})
	}
}

func TestAFileThatBecomesShorterIsAnError(t *testing.T) {
	read := make(chan struct{})
	copying := &Copy{
		From: []io.ReaderAt{shrinking{read}}, To: []io.WriterAt{written{sync.OnceFunc(func() { close(read) })}},
		Bytes: 2, Done: func(int) {},
	}
	if end, err := copying.Run(t.Context(), 0, 6); err == nil || end != 2 {
		t.Errorf("it ended after %d bytes, although more were written: error %v", end, err)
	}
}
