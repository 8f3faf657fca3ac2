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

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// Copy copies until either side ends, with a borrowed buffer.
func Copy(to io.Writer, from io.Reader) error {
	buffer, _ := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buffer)
	// The wrappers keep io.CopyBuffer from finding ways around the buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buffer[:])
	return err
}
