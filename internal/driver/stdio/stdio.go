// Package stdio moves the standard streams of a command between a driver's
// connection and its caller.
//
//	streams := stdio.New(stdin, stdout, stderr)
//	err := stdio.Copy(streams.Stdout, channel)
//	whole := streams.Send(channel)
//
// The two directions differ in what a failure on the caller's side means. Output
// is read to its end even if the caller does not take it, because a remote waits for that
// before it ends the command. Input that breaks off is never followed by its end,
// because half an input must not look like a whole one.
package stdio

import (
	"io"
	"slices"
	"sync"
)

// Streams are the standard streams of one command.
type Streams struct {
	// Stdin is nil for an empty input.
	Stdin          io.Reader
	Stdout, Stderr *Output
	// Broken gets what failed first on the caller's side.
	Broken chan string
}

// New returns the streams of a caller. Each may be nil.
func New(stdin io.Reader, stdout, stderr io.Writer) *Streams {
	s := &Streams{Stdin: stdin, Broken: make(chan string, 1)}
	failed := func() { s.BreakOff("the reader of the command's output went away") }
	s.Stdout, s.Stderr = newOutput(stdout, failed), newOutput(stderr, failed)
	return s
}

// BreakOff tells Broken what failed, unless something else broke before.
func (s *Streams) BreakOff(what string) {
	select {
	case s.Broken <- what:
	default:
	}
}

// Silence has all further output discarded. When it returns, the caller's writers are
// not used anymore.
func (s *Streams) Silence() {
	s.Stdout.silence()
	s.Stderr.silence()
}

// Send copies the input, and reports whether its end may follow.
func (s *Streams) Send(to io.Writer) bool {
	if s.Stdin == nil {
		return true
	}
	from := &input{reader: s.Stdin}
	if _ = Copy(to, from); from.err != nil {
		s.BreakOff("the command's input broke off")
	}
	return from.err == nil
}

// Output is where the output of a command goes. It is safe for concurrent use.
type Output struct {
	failed func()

	mu     sync.Mutex // held while writing, so that silence waits for a Write to return
	writer io.Writer  // nil discards
}

// newOutput returns an Output that passes what it gets on to the writer, or
// discards it if the writer is nil. When the writer fails, failed is called once
// and the rest is discarded.
func newOutput(writer io.Writer, failed func()) *Output {
	return &Output{writer: writer, failed: failed}
}

// Write implements io.Writer. It never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writer == nil {
		return len(p), nil
	}
	if _, err := o.writer.Write(p); err != nil {
		o.writer = nil
		o.failed()
	}
	return len(p), nil
}

func (o *Output) silence() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writer = nil
}

type input struct {
	reader io.Reader
	err    error // why the input ended before its end, or nil
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.reader.Read(p)
	if err != nil && err != io.EOF { // io.Copy takes only io.EOF itself for the end
		i.err = err
	}
	return n, err
}

// bufferBytes leaves room for the heads of messages, so that what a buffer holds travels in
// two records of TLS, of 16 KiB each, without a third one for the last bytes.
const bufferBytes = 32<<10 - 16

const (
	// largeBytes is how much is read at once of what comes faster than it is read. Each read of
	// a channel of SSH that takes something tells the server so, in a packet of its own.
	largeBytes = 4 * pieceBytes
	// pieceBytes is how much of that is passed on at once: what a packet of SSH carries. In
	// smaller pieces each packet would leave a rest, which travels alone.
	pieceBytes = 32 << 10
)

var (
	buffers      = sync.Pool{New: func() any { return new([bufferBytes]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBytes]byte) }}
)

// Copy copies until either side ends, with a borrowed buffer. That is a large one only while
// what is read fills a small one, so that an idle command holds little.
func Copy(to io.Writer, from io.Reader) error {
	buffer, _ := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buffer)
	for {
		n, err := copyOnce(to, from, buffer[:])
		if err == nil && n == bufferBytes {
			err = copyFast(to, from)
		}
		if err == io.EOF { //nolint:errorlint // as in io.Copy, an error that wraps io.EOF is not an end
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyFast copies as long as what is read fills more than a small buffer.
func copyFast(to io.Writer, from io.Reader) error {
	buffer, _ := largeBuffers.Get().(*[largeBytes]byte)
	defer largeBuffers.Put(buffer)
	for {
		if n, err := copyOnce(to, from, buffer[:]); err != nil || n < bufferBytes {
			return err
		}
	}
}

// copyOnce passes one read on, in pieces. The error may be io.EOF.
func copyOnce(to io.Writer, from io.Reader, buffer []byte) (int, error) {
	n, ended := from.Read(buffer)
	for piece := range slices.Chunk(buffer[:n], pieceBytes) {
		written, err := to.Write(piece)
		switch {
		case err != nil:
			return n, err
		case written < len(piece):
			return n, io.ErrShortWrite
		}
	}
	return n, ended
}
