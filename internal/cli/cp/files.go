package cp

import (
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/pkg/sftp"
)

// fileSystem is what both sides of a copy need. Names have slashes on every system,
// which os.Root accepts on each.
type fileSystem interface {
	stat(name string) (fs.FileInfo, error) // follows a link
	lstat(name string) (fs.FileInfo, error)
}

// sourceFiles is a file system from which files are copied.
type sourceFiles interface {
	fileSystem
	list(name string) ([]fs.FileInfo, error)
	readLink(name string) (string, error)
	open(name string) (io.ReadCloser, error)
}

// destinationFiles is a file system to which files are copied.
type destinationFiles interface {
	fileSystem
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

// localFiles is a directory of this machine. os.Root promises that no name and no
// link leads out of it, so a hostile server cannot reach anything else.
type localFiles struct{ root *os.Root }

func (l localFiles) stat(name string) (fs.FileInfo, error)     { return l.root.Stat(name) }
func (l localFiles) lstat(name string) (fs.FileInfo, error)    { return l.root.Lstat(name) }
func (l localFiles) readLink(name string) (string, error)      { return l.root.Readlink(name) }
func (l localFiles) open(name string) (io.ReadCloser, error)   { return l.root.Open(name) }
func (l localFiles) mkdir(name string) error                   { return l.root.Mkdir(name, 0o700) }
func (l localFiles) link(target, name string) error            { return l.root.Symlink(target, name) }
func (l localFiles) rename(from, to string) error              { return l.root.Rename(from, to) }
func (l localFiles) remove(name string) error                  { return l.root.Remove(name) }
func (l localFiles) chmod(name string, mode fs.FileMode) error { return l.root.Chmod(name, mode) }
func (l localFiles) chtimes(name string, mtime time.Time) error {
	return l.root.Chtimes(name, mtime, mtime)
}

func (l localFiles) list(name string) ([]fs.FileInfo, error) {
	directory, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = directory.Close() }()
	return directory.Readdir(-1)
}

func (l localFiles) create(name string) (io.WriteCloser, error) {
	return l.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// remoteFiles is the file system of an sftp server.
type remoteFiles struct{ client *sftp.Client }

func (r remoteFiles) stat(name string) (fs.FileInfo, error)     { return r.client.Stat(name) }
func (r remoteFiles) lstat(name string) (fs.FileInfo, error)    { return r.client.Lstat(name) }
func (r remoteFiles) list(name string) ([]fs.FileInfo, error)   { return r.client.ReadDir(name) }
func (r remoteFiles) readLink(name string) (string, error)      { return r.client.ReadLink(name) }
func (r remoteFiles) open(name string) (io.ReadCloser, error)   { return r.client.Open(name) }
func (r remoteFiles) mkdir(name string) error                   { return r.client.Mkdir(name) }
func (r remoteFiles) link(target, name string) error            { return r.client.Symlink(target, name) }
func (r remoteFiles) remove(name string) error                  { return r.client.Remove(name) }
func (r remoteFiles) chmod(name string, mode fs.FileMode) error { return r.client.Chmod(name, mode) }

func (r remoteFiles) chtimes(name string, modified time.Time) error {
	return r.client.Chtimes(name, modified, modified)
}

func (r remoteFiles) create(name string) (io.WriteCloser, error) {
	file, err := r.client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return nil, err
	}
	// The library opens without a mode: the file becomes private while it is empty.
	if err := file.Chmod(0o600); err != nil {
		return nil, closeAfter(file, err)
	}
	return file, nil
}

// rename replaces the new name in one step if the server can. Otherwise it removes
// the new name first.
func (r remoteFiles) rename(from, to string) error {
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

// closeAfter closes something that failed, and returns the error of that.
func closeAfter(closer io.Closer, err error) error {
	_ = closer.Close()
	return err
}
