package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Open opens a file for reading. Its Info has the size and the permissions, and the
// stream ends with an error if it does not have that size.
func (f *Files) Open(name string) (*Reader, error) { return f.open(name, 0) }

func (f *Files) open(name string, offset int64) (*Reader, error) {
	ctx, cancel := context.WithCancel(f.copying)
	ended := make(chan struct{})
	from, to := io.Pipe()
	r := &Reader{Info: Info{Path: name}, files: f, pipe: from, cancel: cancel, ended: ended}
	args := []string{name}
	if offset > 0 {
		args = append(args, strconv.FormatInt(offset+1, 10))
	}
	go func() {
		defer close(ended)
		_ = to.CloseWithError(classify(name, f.shell(ctx, nil, to, readScript, args...)))
	}()
	r.in = bufio.NewReader(from)
	if err := r.readFacts(); err != nil {
		_ = r.Close()
		return nil, err
	}
	r.left = max(0, r.size-offset)
	return r, nil
}

// Reader is the content of a file. It must be closed.
type Reader struct {
	Info

	files  *Files
	in     *bufio.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
	left   int64
	ended  chan struct{}
}

// Seek implements io.Seeker, from the start of the file only.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	_ = r.Close()
	again, err := r.files.open(r.Path, offset)
	if err != nil {
		return 0, err
	}
	was := r.Info
	*r = *again
	if r.size != was.size || !r.modified.Equal(was.modified) {
		return 0, fmt.Errorf("%q changed while it was being copied", r.Path)
	}
	return offset, nil
}

func (r *Reader) readFacts() error {
	var mode uint32
	var seconds int64
	line, err := r.in.ReadSlice('\n')
	if err == nil {
		_, err = fmt.Sscanf(string(line), "%o %d %d\n", &mode, &seconds, &r.size)
	}
	switch {
	case err != nil && len(line) == 0 && !errors.Is(err, io.EOF):
		return err
	case err != nil || r.size < 0:
		return fmt.Errorf("the container did not say how long %q is: %.100q", r.Path, line)
	}
	r.mode = fs.FileMode(mode).Perm()
	if seconds > 0 {
		r.modified = time.Unix(seconds, 0)
	}
	return nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.end()
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		err = fmt.Errorf("it ended after %d of %d bytes", r.size-r.left, r.size)
	}
	return n, err
}

// end waits for the end of the script behind the last byte. A file that has grown since
// is as long as it was.
func (r *Reader) end() error {
	const most = 1 << 20
	if _, err := io.CopyN(io.Discard, r.in, most); err != nil {
		return err
	}
	return io.EOF
}

// Close ends the stream. It may be called before its end.
func (r *Reader) Close() error {
	r.cancel()
	_ = r.pipe.Close()
	<-r.ended
	return nil
}

// Overwrite returns a writer for a file, which is emptied first, or made. Closing it waits
// until the container has counted what it has written.
func (f *Files) Overwrite(name string) io.WriteCloser { return f.write(name, overwriteScript) }

// Create is Overwrite for a new file, which gets these permissions when it is complete.
func (f *Files) Create(name string, mode fs.FileMode) io.WriteCloser {
	return f.write(name, createScript, octal(mode))
}

// Append is Overwrite for what comes behind the bytes that a file has. The file then gets
// these permissions, unless they are 0.
func (f *Files) Append(name string, size int64, mode fs.FileMode) io.WriteCloser {
	permissions := ""
	if mode != 0 {
		permissions = octal(mode)
	}
	w := f.write(name, appendScript, permissions)
	w.sent = size
	return w
}

func (f *Files) write(name, script string, args ...string) *writer {
	from, to := io.Pipe()
	w := &writer{name: name, pipe: to, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		count := &head{most: maxSaid}
		w.err = classify(name, f.shell(f.ctx, from, count, script, append([]string{name}, args...)...))
		w.count = strings.TrimSpace(count.text())
		_ = from.CloseWithError(errEnded)
	}()
	return w
}

// errEnded is what a writer gets when the program in the container has ended too early.
// Closing the writer says why.
var errEnded = errors.New("the container stopped reading")

type writer struct {
	name  string
	pipe  *io.PipeWriter
	sent  int64
	ended chan struct{}
	// err and count are what the script returned, once ended is closed.
	err   error
	count string
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.pipe.Write(p)
	w.sent += int64(n)
	if errors.Is(err, errEnded) {
		<-w.ended
		if w.err != nil {
			return n, w.err
		}
	}
	return n, err
}

// Close implements io.Closer.
func (w *writer) Close() error {
	_ = w.pipe.Close()
	<-w.ended
	switch {
	case w.err != nil:
		return w.err
	case w.count != strconv.FormatInt(w.sent, 10):
		return fmt.Errorf("%d bytes were sent, and the container has written %.40q", w.sent, w.count)
	}
	return nil
}

// Pack lets use read the tree below a directory, as a tar stream. What tar could not
// read is in the *ScriptError that it returns if everything else went well.
func (f *Files) Pack(ctx context.Context, name string, use func(io.Reader) error) error {
	if !f.tar {
		return errNoTar
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := f.shell(ctx, nil, to, packScript, name)
		if _, ok := errors.AsType[*ScriptError](err); ok {
			_ = to.Close() // the stream says whether it is whole
		} else {
			_ = to.CloseWithError(err)
		}
		ended <- err
	}()
	err := use(from)
	if err != nil {
		cancel()
	}
	_ = from.CloseWithError(io.ErrClosedPipe)
	failed := <-ended
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) && failed != nil { // it ended early because tar did
		return classify(name, failed)
	}
	return err
}

// Unpack unpacks a tar stream, which write writes, into a new directory, which the
// caller removes if there is an error. In it are the names of package tarstream. Times are kept if that is asked for.
func (f *Files) Unpack(ctx context.Context, stage string, times bool, write func(io.Writer) error) error {
	if !f.tar {
		return errNoTar
	}
	flags := "xpomf"
	if times {
		flags = "xpof"
	}
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := f.shell(f.ctx, from, io.Discard, unpackScript, stage, flags)
		_ = from.CloseWithError(errEnded)
		ended <- err
	}()
	defer context.AfterFunc(ctx, func() { _ = to.Close() })()
	err := write(to)
	_ = to.Close()
	failed := <-ended
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed != nil && (err == nil || errors.Is(err, errEnded)):
		return classify(path.Dir(stage), failed)
	}
	return err
}

// SomeLeft is the code of a ScriptError of Install that has left some files behind. It says
// which, line by line.
const SomeLeft = 1

// Install moves the tree that was unpacked in stage to its name, or merges it with what
// is there, and removes stage.
func (f *Files) Install(stage, to string, preserve bool) error {
	flag := ""
	if preserve {
		flag = "yes"
	}
	_, err := f.ask(installScript, stage, to, flag)
	return err
}
