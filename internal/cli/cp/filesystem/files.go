// Package filesystem is the two sides of a copy: what a file system must offer, the files of this
// machine, and the words for what can go wrong with a file.
//
//	local, name, err := filesystem.OpenLocal("site.conf")
//	info, err := local.Stat(name)
//	return filesystem.Explain(name, err)
package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pkg/sftp"
)

// fileSystem is what both sides of a copy need. Names have slashes on every system,
// which os.Root accepts on each.
type fileSystem interface {
	Stat(name string) (fs.FileInfo, error) // follows a link
	Lstat(name string) (fs.FileInfo, error)
}

// Source is a file system from which files are copied.
type Source interface {
	fileSystem
	List(name string) ([]fs.FileInfo, error)
	ReadLink(name string) (string, error)
	Open(name string) (io.ReadCloser, error)
}

// Destination is a file system to which files are copied.
type Destination interface {
	fileSystem
	// Create makes a new file, and Mkdir a directory, with these permissions without
	// those that the umask of its side takes away.
	Create(name string, mode fs.FileMode) (io.WriteCloser, error)
	Mkdir(name string, mode fs.FileMode) error
	// Enter is told the directory that a whole tree is copied to.
	Enter(name string) error
	// Overwrite empties a file, and makes it if there is none. It follows links.
	Overwrite(name string, mode fs.FileMode) (io.WriteCloser, error)
	// Continue opens a file that exists, to write it from an offset on. A file of a container
	// gets its permissions when it is complete; mode is 0 if it has them.
	Continue(name string, offset int64, mode fs.FileMode) (io.WriteCloser, error)
	Link(target, name string) error
	// Rename replaces what has the new name, unless it is a directory.
	Rename(from, to string) error
	Remove(name string) error
	metadata
}

// metadata are the permissions and times of files.
type metadata interface {
	Chmod(name string, mode fs.FileMode) error
	Chtimes(name string, modified time.Time) error
}

// Server is a side whose files are read and written by requests, of which many are under
// way at once.
type Server interface {
	// PieceBytes is how much one request may carry.
	PieceBytes() int
	// Lanes opens a file once more on each further stream that a file of this size is worth.
	Lanes(ctx context.Context, name string, write bool, size int64) []*sftp.File
	// Stream identifies the stream by which the server is reached now, and Renew makes
	// another one if that has ended, and reports whether the server can be reached.
	Stream() any
	Renew(ctx context.Context, stream any) bool
}

// ServerOf returns which of the sides is a Server; nil if none is.
func ServerOf(sides ...any) Server {
	for _, side := range sides {
		if server, ok := side.(Server); ok {
			return server
		}
	}
	return nil
}

// IsServer reports whether a side is a Server.
func IsServer(side any) bool {
	_, ok := side.(Server)
	return ok
}

// IsLocal reports whether a side is this machine.
func IsLocal(side any) bool {
	_, ok := side.(*Local)
	return ok
}

// Local is a directory of this machine. os.Root promises that no name and no
// link leads out of it, so a hostile server cannot reach anything else. Names are
// those that the user typed, so that messages have them.
type Local struct {
	root *os.Root
	// named is what the user typed, and base what that is called in the root.
	named, base string
}

// Enter makes the directory of a tree the bound of all names: a link in it must not lead
// to what is beside it.
func (l *Local) Enter(name string) error {
	inside, err := l.root.OpenRoot(l.in(name))
	if err != nil {
		return err
	}
	l.Close()
	l.root, l.named, l.base = inside, name, "."
	return nil
}

// Close closes the directory.
func (l *Local) Close() { _ = l.root.Close() }

// in returns what a name is called in the root.
func (l *Local) in(name string) string {
	if l.named == "." {
		return path.Join(l.base, name)
	}
	if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(l.named, "/")); ok && (rest == "" || rest[0] == '/') {
		return path.Join(l.base, rest)
	}
	return path.Base(name) // a temporary name beside it
}

// Stat returns what a name leads to.
func (l *Local) Stat(name string) (fs.FileInfo, error) { return l.root.Stat(l.in(name)) }

// Lstat returns what has a name.
func (l *Local) Lstat(name string) (fs.FileInfo, error) { return l.root.Lstat(l.in(name)) }

// ReadLink returns where a link leads.
func (l *Local) ReadLink(name string) (string, error) { return l.root.Readlink(l.in(name)) }

// Open opens a file for reading.
func (l *Local) Open(name string) (io.ReadCloser, error) { return l.root.Open(l.in(name)) }

// Remove removes a file.
func (l *Local) Remove(name string) error { return l.root.Remove(l.in(name)) }

// Link makes a symbolic link.
func (l *Local) Link(target, name string) error {
	return l.root.Symlink(target, l.in(name))
}

// Again makes a further name of a file.
func (l *Local) Again(name, further string) error {
	return l.root.Link(l.in(name), l.in(further))
}

// Rename gives a file another name.
func (l *Local) Rename(from, to string) error {
	return l.root.Rename(l.in(from), l.in(to))
}

// Chmod sets permissions.
func (l *Local) Chmod(name string, mode fs.FileMode) error {
	return l.root.Chmod(l.in(name), mode)
}

// Chtimes sets when a file was modified.
func (l *Local) Chtimes(name string, mtime time.Time) error {
	return l.root.Chtimes(l.in(name), mtime, mtime)
}

// List returns what is in a directory.
func (l *Local) List(name string) ([]fs.FileInfo, error) {
	directory, err := l.root.Open(l.in(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = directory.Close() }()
	return directory.Readdir(-1)
}

// Create makes a file, which can be read too: what has arrived is verified.
func (l *Local) Create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	return l.root.OpenFile(l.in(name), os.O_CREATE|os.O_EXCL|os.O_RDWR, mode.Perm())
}

// Overwrite empties a file.
func (l *Local) Overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	const flag = os.O_CREATE | os.O_TRUNC
	file, err := l.root.OpenFile(l.in(name), flag|os.O_RDWR, mode.Perm())
	if errors.Is(err, fs.ErrPermission) { // it may be one that can only be written
		return l.root.OpenFile(l.in(name), flag|os.O_WRONLY, mode.Perm())
	}
	return file, err
}

// Continue opens a file that exists, to write it from an offset on.
func (l *Local) Continue(name string, offset int64, _ fs.FileMode) (io.WriteCloser, error) {
	file, err := l.root.OpenFile(l.in(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	_, err = file.Seek(offset, io.SeekStart)
	return file, err
}

// Mkdir makes a directory.
func (l *Local) Mkdir(name string, mode fs.FileMode) error {
	return l.root.Mkdir(l.in(name), mode.Perm())
}
