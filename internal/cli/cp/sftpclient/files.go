package sftpclient

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"os"
	"time"
)

// Files is the file system of an sftp server.
type Files struct {
	client *Client
	lanes  *lanes
}

// OpenFiles opens the file system of a target. What the server makes the user wait for is
// said on notes. So many streams share a large file; 0 leaves that to the distance.
func OpenFiles(ctx context.Context, subsystem Subsystem, notes io.Writer, streams int) (*Files, error) {
	client, err := Open(ctx, subsystem, notes)
	if err != nil {
		return nil, err
	}
	further := func(ctx context.Context) (*Client, error) { return Open(ctx, subsystem, io.Discard) }
	return &Files{client, &lanes{first: client, streams: streams, open: further}}, nil
}

// Close ends all streams, and returns the error of one that has failed before.
func (f *Files) Close() error { return cmp.Or(f.lanes.close(), f.client.Close()) }

// Failure returns why the client itself has ended the subsystem, if it has.
func (f *Files) Failure() error { return f.client.Failure() }

// PieceBytes implements filesystem.Server.
func (f *Files) PieceBytes() int { return f.client.PieceBytes() }

// Stat implements filesystem.Source.
func (f *Files) Stat(name string) (fs.FileInfo, error) { return f.client.Stat(name) }

// Lstat implements filesystem.Source.
func (f *Files) Lstat(name string) (fs.FileInfo, error) { return f.client.Lstat(name) }

// List implements filesystem.Source.
func (f *Files) List(name string) ([]fs.FileInfo, error) { return f.client.ReadDir(name) }

// ReadLink implements filesystem.Source.
func (f *Files) ReadLink(name string) (string, error) { return f.client.ReadLink(name) }

// Open implements filesystem.Source.
func (f *Files) Open(name string) (io.ReadCloser, error) { return f.client.Open(name) }

// Link implements filesystem.Destination.
func (f *Files) Link(target, name string) error { return f.client.Symlink(target, name) }

// Remove implements filesystem.Destination.
func (f *Files) Remove(name string) error { return f.client.Remove(name) }

// Chmod implements filesystem.Destination.
func (f *Files) Chmod(name string, mode fs.FileMode) error { return f.client.Chmod(name, mode) }

// Chtimes implements filesystem.Destination.
func (f *Files) Chtimes(name string, modified time.Time) error {
	return f.client.Chtimes(name, modified, modified)
}

// Create implements filesystem.Destination.
func (f *Files) Create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	f.client.Make(name, mode)
	return f.client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

// Overwrite implements filesystem.Destination.
func (f *Files) Overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	f.client.Make(name, mode)
	return f.client.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
}

// Continue implements filesystem.Destination.
func (f *Files) Continue(name string) (io.WriteCloser, error) {
	return f.client.OpenFile(name, os.O_WRONLY)
}

// Mkdir implements filesystem.Destination.
func (f *Files) Mkdir(name string, mode fs.FileMode) error {
	f.client.Make(name, mode)
	return f.client.Mkdir(name)
}

// Enter does nothing: where links lead on the server is the matter of its users.
func (f *Files) Enter(string) error { return nil }

// Rename replaces the new name in one step if the server can. Otherwise it removes
// the new name first.
func (f *Files) Rename(from, to string) error {
	if _, ok := f.client.HasExtension("posix-rename@openssh.com"); ok {
		return f.client.PosixRename(from, to)
	}
	if info, err := f.client.Lstat(to); err == nil && !info.IsDir() {
		if err := f.client.Remove(to); err != nil {
			return err
		}
	}
	return f.client.Rename(from, to)
}
