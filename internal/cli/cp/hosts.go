package cp

import (
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
)

// remoteFiles is the file system of an sftp server.
type remoteFiles struct {
	client *sftpclient.Client
	lanes  *lanes
}

// PieceBytes implements filesystem.Server.
func (r remoteFiles) PieceBytes() int { return r.client.PieceBytes() }

// Stat implements filesystem.Source.
func (r remoteFiles) Stat(name string) (fs.FileInfo, error) { return r.client.Stat(name) }

// Lstat implements filesystem.Source.
func (r remoteFiles) Lstat(name string) (fs.FileInfo, error) { return r.client.Lstat(name) }

// List implements filesystem.Source.
func (r remoteFiles) List(name string) ([]fs.FileInfo, error) { return r.client.ReadDir(name) }

// ReadLink implements filesystem.Source.
func (r remoteFiles) ReadLink(name string) (string, error) { return r.client.ReadLink(name) }

// Open implements filesystem.Source.
func (r remoteFiles) Open(name string) (io.ReadCloser, error) { return r.client.Open(name) }

// Link implements filesystem.Destination.
func (r remoteFiles) Link(target, name string) error { return r.client.Symlink(target, name) }

// Remove implements filesystem.Destination.
func (r remoteFiles) Remove(name string) error { return r.client.Remove(name) }

// Chmod implements filesystem.Destination.
func (r remoteFiles) Chmod(name string, mode fs.FileMode) error { return r.client.Chmod(name, mode) }

// Chtimes implements filesystem.Destination.
func (r remoteFiles) Chtimes(name string, modified time.Time) error {
	return r.client.Chtimes(name, modified, modified)
}

// Create implements filesystem.Destination.
func (r remoteFiles) Create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	r.client.Make(name, mode)
	return r.client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

// Overwrite implements filesystem.Destination.
func (r remoteFiles) Overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	r.client.Make(name, mode)
	return r.client.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
}

// Continue implements filesystem.Destination.
func (r remoteFiles) Continue(name string) (io.WriteCloser, error) {
	return r.client.OpenFile(name, os.O_WRONLY)
}

// Mkdir implements filesystem.Destination.
func (r remoteFiles) Mkdir(name string, mode fs.FileMode) error {
	r.client.Make(name, mode)
	return r.client.Mkdir(name)
}

// Enter does nothing: where links lead on the server is the matter of its users.
func (r remoteFiles) Enter(string) error { return nil }

// Rename replaces the new name in one step if the server can. Otherwise it removes
// the new name first.
func (r remoteFiles) Rename(from, to string) error {
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
