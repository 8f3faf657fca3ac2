package sftpclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
)

const (
	// maxRenewals is how often a copy gets another first stream in the place of one that broke.
	maxRenewals = 3
	// renewalPause is how long it waits after the first attempt that failed, and twice as long
	// after the next one. The pool dials meanwhile.
	renewalPause = 250 * time.Millisecond
)

// Files is the file system of an sftp server.
type Files struct {
	lanes *lanes
	open  func(context.Context) (*Client, error)

	client   atomic.Pointer[Client] // replaced by Renew
	renewing sync.Mutex             // guards renewals, and is held by Renew
	renewals int
}

// now returns the client of the first stream.
func (f *Files) now() *Client { return f.client.Load() }

// OpenFiles opens the file system of a target. What the server makes the user wait for is
// said on notes. So many streams share a large file; 0 leaves that to the distance.
func OpenFiles(ctx context.Context, subsystem Subsystem, notes io.Writer, streams int) (*Files, error) {
	client, err := Open(ctx, subsystem, notes)
	if err != nil {
		return nil, err
	}
	further := func(ctx context.Context) (*Client, error) { return Open(ctx, subsystem, io.Discard) }
	f := &Files{lanes: &lanes{first: client, streams: streams, open: further}, open: further}
	f.client.Store(client)
	return f, nil
}

// Stream implements filesystem.Server.
func (f *Files) Stream() any { return f.now() }

// Renew implements filesystem.Server. A server that was given up gets no other stream.
func (f *Files) Renew(ctx context.Context, stream any) bool {
	f.renewing.Lock()
	defer f.renewing.Unlock()
	old := f.now()
	if stream != any(old) {
		return true // another caller was here before
	}
	if _, err := old.Lstat("."); !lost(err) {
		return true // it is a further one that broke
	}
	pause := renewalPause
	for ; f.renewals < maxRenewals && old.Failure() == nil && ctx.Err() == nil; f.renewals++ {
		if client, err := f.open(ctx); err == nil {
			f.renewals++
			f.client.Store(client)
			_ = old.Close()
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause *= 2
		}
	}
	return false
}

// lost reports whether an error says that the stream to the server has ended.
func lost(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe)
}

// Close ends all streams, and returns the error of one that has failed before.
func (f *Files) Close() error { return cmp.Or(f.lanes.close(), f.now().Close()) }

// Failure returns why the client itself has ended the subsystem, if it has.
func (f *Files) Failure() error { return f.now().Failure() }

// PieceBytes implements filesystem.Server.
func (f *Files) PieceBytes() int { return f.now().PieceBytes() }

// Stat implements filesystem.Source.
func (f *Files) Stat(name string) (fs.FileInfo, error) { return f.now().Stat(name) }

// Lstat implements filesystem.Source.
func (f *Files) Lstat(name string) (fs.FileInfo, error) { return f.now().Lstat(name) }

// List implements filesystem.Source.
func (f *Files) List(name string) ([]fs.FileInfo, error) { return f.now().ReadDir(name) }

// ReadLink implements filesystem.Source.
func (f *Files) ReadLink(name string) (string, error) { return f.now().ReadLink(name) }

// Open implements filesystem.Source.
func (f *Files) Open(name string) (io.ReadCloser, error) { return f.now().Open(name) }

// Link implements filesystem.Destination.
func (f *Files) Link(target, name string) error { return f.now().Symlink(target, name) }

// Remove implements filesystem.Destination.
func (f *Files) Remove(name string) error { return f.now().Remove(name) }

// Chmod implements filesystem.Destination.
func (f *Files) Chmod(name string, mode fs.FileMode) error { return f.now().Chmod(name, mode) }

// Chtimes implements filesystem.Destination.
func (f *Files) Chtimes(name string, modified time.Time) error {
	return f.now().Chtimes(name, modified, modified)
}

// Create implements filesystem.Destination.
func (f *Files) Create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	client := f.now()
	client.Make(name, mode)
	return client.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

// Overwrite implements filesystem.Destination.
func (f *Files) Overwrite(name string, mode fs.FileMode) (io.WriteCloser, error) {
	client := f.now()
	client.Make(name, mode)
	return client.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
}

// Continue implements filesystem.Destination.
func (f *Files) Continue(name string, _ int64, _ fs.FileMode) (io.WriteCloser, error) {
	return f.now().OpenFile(name, os.O_WRONLY)
}

// Mkdir implements filesystem.Destination.
func (f *Files) Mkdir(name string, mode fs.FileMode) error {
	client := f.now()
	client.Make(name, mode)
	return client.Mkdir(name)
}

// Enter does nothing: where links lead on the server is the matter of its users.
func (f *Files) Enter(string) error { return nil }

// Rename replaces the new name in one step if the server can. Otherwise it removes
// the new name first.
func (f *Files) Rename(from, to string) error {
	client := f.now()
	if _, ok := client.HasExtension("posix-rename@openssh.com"); ok {
		return client.PosixRename(from, to)
	}
	if info, err := client.Lstat(to); err == nil && !info.IsDir() {
		if err := client.Remove(to); err != nil {
			return err
		}
	}
	return client.Rename(from, to)
}
