package cp

import (
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
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
	// create makes a new file, and mkdir a directory, with these permissions without
	// those that the umask of its side takes away.
	create(name string, mode fs.FileMode) (io.WriteCloser, error)
	mkdir(name string, mode fs.FileMode) error
	// overwrite empties a file, and makes it if there is none. It follows links.
	overwrite(name string, mode fs.FileMode) (io.WriteCloser, error)
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

func (l localFiles) create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	return l.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm())
}

func (l localFiles) overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	return l.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode.Perm())
}

func (l localFiles) mkdir(name string, mode fs.FileMode) error {
	return l.root.Mkdir(name, mode.Perm())
}

// remoteFiles is the file system of an sftp server.
type remoteFiles struct{ client *sftpclient.Client }

func (r remoteFiles) stat(name string) (fs.FileInfo, error)     { return r.client.Stat(name) }
func (r remoteFiles) lstat(name string) (fs.FileInfo, error)    { return r.client.Lstat(name) }
func (r remoteFiles) list(name string) ([]fs.FileInfo, error)   { return r.client.ReadDir(name) }
func (r remoteFiles) readLink(name string) (string, error)      { return r.client.ReadLink(name) }
func (r remoteFiles) open(name string) (io.ReadCloser, error)   { return r.client.Open(name) }
func (r remoteFiles) link(target, name string) error            { return r.client.Symlink(target, name) }
func (r remoteFiles) remove(name string) error                  { return r.client.Remove(name) }
func (r remoteFiles) chmod(name string, mode fs.FileMode) error { return r.client.Chmod(name, mode) }

func (r remoteFiles) chtimes(name string, modified time.Time) error {
	return r.client.Chtimes(name, modified, modified)
}

func (r remoteFiles) create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	r.client.Make(name, mode)
	return r.client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

func (r remoteFiles) overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	r.client.Make(name, mode)
	return r.client.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
}

func (r remoteFiles) mkdir(name string, mode fs.FileMode) error {
	r.client.Make(name, mode)
	return r.client.Mkdir(name)
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
