package cli

import (
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/pkg/sftp"
)

// names is what any file system knows about its files.
type names interface {
	stat(name string) (fs.FileInfo, error) // of what a link leads to
	lstat(name string) (fs.FileInfo, error)
	join(directory, name string) string
	dir(name string) string
}

// origin is a file system that files are copied from.
type origin interface {
	names
	list(name string) ([]fs.FileInfo, error)
	readLink(name string) (string, error)
	open(name string) (io.ReadCloser, error)
}

// goal is a file system that files are copied to.
type goal interface {
	names
	// create makes a new file that only its owner may read.
	create(name string) (io.WriteCloser, error)
	mkdir(name string) error
	link(target, name string) error
	// rename replaces what has the new name, unless it is a directory.
	rename(from, to string) error
	remove(name string) error
	chmod(name string, mode fs.FileMode) error
	chtimes(name string, modified time.Time) error
}

// localPlace is a directory of this machine. Nothing outside of it can be
// reached through it, whatever names and links there are: that is os.Root's
// promise, and a hostile server cannot make us break it.
type localPlace struct{ root *os.Root }

func (l localPlace) stat(name string) (fs.FileInfo, error)     { return l.root.Stat(name) }
func (l localPlace) lstat(name string) (fs.FileInfo, error)    { return l.root.Lstat(name) }
func (l localPlace) readLink(name string) (string, error)      { return l.root.Readlink(name) }
func (l localPlace) open(name string) (io.ReadCloser, error)   { return l.root.Open(name) }
func (l localPlace) mkdir(name string) error                   { return l.root.Mkdir(name, 0o700) }
func (l localPlace) link(target, name string) error            { return l.root.Symlink(target, name) }
func (l localPlace) rename(from, to string) error              { return l.root.Rename(from, to) }
func (l localPlace) remove(name string) error                  { return l.root.Remove(name) }
func (l localPlace) chmod(name string, mode fs.FileMode) error { return l.root.Chmod(name, mode) }
func (l localPlace) chtimes(name string, mtime time.Time) error {
	return l.root.Chtimes(name, mtime, mtime)
}
func (l localPlace) join(directory, name string) string { return filepath.Join(directory, name) }
func (l localPlace) dir(name string) string             { return filepath.Dir(name) }

func (l localPlace) list(name string) ([]fs.FileInfo, error) {
	directory, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = directory.Close() }()
	return directory.Readdir(-1)
}

func (l localPlace) create(name string) (io.WriteCloser, error) {
	return l.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// remotePlace is what an sftp server shows.
type remotePlace struct{ client *sftp.Client }

func (r remotePlace) stat(name string) (fs.FileInfo, error)     { return r.client.Stat(name) }
func (r remotePlace) lstat(name string) (fs.FileInfo, error)    { return r.client.Lstat(name) }
func (r remotePlace) list(name string) ([]fs.FileInfo, error)   { return r.client.ReadDir(name) }
func (r remotePlace) readLink(name string) (string, error)      { return r.client.ReadLink(name) }
func (r remotePlace) open(name string) (io.ReadCloser, error)   { return r.client.Open(name) }
func (r remotePlace) mkdir(name string) error                   { return r.client.Mkdir(name) }
func (r remotePlace) link(target, name string) error            { return r.client.Symlink(target, name) }
func (r remotePlace) remove(name string) error                  { return r.client.Remove(name) }
func (r remotePlace) chmod(name string, mode fs.FileMode) error { return r.client.Chmod(name, mode) }

func (r remotePlace) join(directory, name string) string { return path.Join(directory, name) }
func (r remotePlace) dir(name string) string             { return path.Dir(name) }

func (r remotePlace) chtimes(name string, modified time.Time) error {
	return r.client.Chtimes(name, modified, modified)
}

func (r remotePlace) create(name string) (io.WriteCloser, error) {
	file, err := r.client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return nil, err
	}
	// The protocol's open takes no mode here, so the file is made secret while it
	// is still empty.
	if err := file.Chmod(0o600); err != nil {
		return nil, closeAfter(file, err)
	}
	return file, nil
}

// rename replaces the new name in one step where the server can, and by removing
// it first where it cannot.
func (r remotePlace) rename(from, to string) error {
	if _, ok := r.client.HasExtension("posix-rename@openssh.com"); ok {
		return r.client.PosixRename(from, to)
	}
	if info, err := r.client.Lstat(to); err == nil && !info.IsDir() {
		if err := r.client.Remove(to); err != nil {
			return err
		}
	}
	return r.client.Rename(from, to)
}

// closeAfter closes what failed and returns why it failed.
func closeAfter(closer io.Closer, err error) error {
	_ = closer.Close()
	return err
}
