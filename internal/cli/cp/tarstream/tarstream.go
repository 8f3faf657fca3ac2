// Package tarstream reads and writes trees of files as tar streams. It does not trust
// what it reads.
//
// A Reader returns the entries of a tree one by one. Names that leave the tree, a stream
// that makes more of itself than was sent, or one that ends early, end it with an error.
// Where a name leads on this machine is not its matter: who writes the files keeps to
// os.Root.
package tarstream

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/tree"
)

// Names in a stream that goes to a container: the tree, and the empty file behind it,
// which shows that all of it has arrived.
const (
	Tree = "tree"
	End  = "end"
)

// Entry is a file, a directory or a link.
type Entry struct {
	// Name is relative to the tree and clean; "." is the tree itself.
	Name     string
	Mode     fs.FileMode
	Size     int64
	Modified time.Time
	// Link is the target of a symbolic link.
	Link string
	// Same is the name of an earlier file of which this is another name.
	Same string
	// Left says why the entry is not copied, if that is so.
	Left error
}

// Reader reads a tree.
type Reader struct {
	sent *counter
	tar  *tar.Reader
	size tree.Size
	// unpacked is how many bytes of content were read.
	unpacked int64
}

// counter counts what arrives, and notes its end.
type counter struct {
	io.Reader

	bytes int64
	ended bool
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	c.ended = c.ended || errors.Is(err, io.EOF)
	return n, err
}

// NewReader returns a reader of a stream.
func NewReader(in io.Reader) *Reader {
	sent := &counter{Reader: in}
	return &Reader{sent: sent, tar: tar.NewReader(sent)}
}

var errCut = fmt.Errorf("the stream ended before its end: %w", io.ErrUnexpectedEOF)

// Next returns the next entry, or io.EOF behind the last one. A stream without the mark
// of its end is an error.
func (r *Reader) Next() (*Entry, error) {
	for {
		header, err := r.tar.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, r.end()
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errCut
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
			return nil, errors.New("the container did not send a tar stream")
		case err != nil:
			return nil, err
		case header.Typeflag == tar.TypeXGlobalHeader:
			continue
		}
		return r.entry(header)
	}
}

// end tells the mark of the end from the end of what was sent, and reads what fills the
// last block.
func (r *Reader) end() error {
	if r.sent.ended {
		return errCut
	}
	const most = 1 << 20
	if n, err := io.CopyN(io.Discard, r.sent, most); err == nil {
		return fmt.Errorf("the container sent %d bytes or more after the end of the stream", n)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}

func (r *Reader) entry(header *tar.Header) (*Entry, error) {
	info := header.FileInfo()
	e := &Entry{Mode: info.Mode(), Size: header.Size, Modified: header.ModTime}
	var depth int
	var err error
	if e.Name, depth, err = clean(header.Name); err != nil {
		return nil, err
	}
	if err := r.size.Add(e.Name, depth, 2*len(e.Name)+len(header.Linkname)); err != nil {
		return nil, err
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeSymlink:
		if e.Link = header.Linkname; !tree.StaysInside(e.Link, depth) {
			e.Left = fmt.Errorf("it is a link to %.200q, which is outside the copied directory", e.Link)
		}
	case tar.TypeLink:
		e.Mode = e.Mode.Perm()
		if e.Same, _, err = clean(header.Linkname); err != nil {
			return nil, err
		}
	default:
		e.Left = errors.New("it is not a file, a directory or a link")
	}
	return e, nil
}

// clean returns a name without ./ before it, and how many directories it is deep. Names
// that no tar would write end the copy.
func clean(name string) (cleaned string, depth int, err error) {
	cleaned = strings.TrimSuffix(name, "/")
	for strings.HasPrefix(cleaned, "./") {
		cleaned = cleaned[2:]
	}
	if cleaned == "." {
		return cleaned, 0, nil
	}
	parts := strings.Split(cleaned, "/")
	for _, part := range parts {
		if !tree.IsPlainName(part) {
			return "", 0, fmt.Errorf("the container sent the name %.200q, which is not a valid file name: "+
				"it cannot be trusted, and nothing more was copied", name)
		}
	}
	return cleaned, len(parts), nil
}

// Read reads the content of the last entry.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	if r.unpacked += int64(n); r.unpacked > r.sent.bytes {
		return 0, errors.New("the container sent more data than it announced: nothing more was copied")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return n, err
}

// Writer writes a tree.
type Writer struct{ tar *tar.Writer }

// NewWriter returns a writer of a stream.
func NewWriter(out io.Writer) *Writer { return &Writer{tar: tar.NewWriter(out)} }

// Add begins an entry. Size bytes of content must follow for a file.
func (w *Writer) Add(e *Entry) error {
	// Of the formats with long names and large files, it is the one that every tar reads.
	header := &tar.Header{Name: e.Name, Mode: int64(e.Mode.Perm()), ModTime: e.Modified.Truncate(time.Second), Format: tar.FormatGNU}
	switch {
	case e.Mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, e.Name+"/"
	case e.Mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.Link
	default:
		header.Typeflag, header.Size = tar.TypeReg, e.Size
	}
	return w.tar.WriteHeader(header)
}

// Write writes content of the last entry.
func (w *Writer) Write(p []byte) (int, error) { return w.tar.Write(p) }

// Close writes the mark of the end.
func (w *Writer) Close() error { return w.tar.Close() }
