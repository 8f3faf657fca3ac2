// Package stdio moves the standard streams of a command between a driver's
// connection and its caller.
//
//	stdout := stdio.NewOutput(streams.Stdout, func() { breakOff("the output has nowhere to go") })
//	err := stdio.Copy(stdout, channel)
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

// Output is where the output of a command goes. It is safe for concurrent use.
type Output struct {
	failed func()

	mu     sync.Mutex // held while writing, so that Silence waits for a Write to return
	writer io.Writer  // nil discards
}

// NewOutput returns an Output that passes what it gets on to the writer, or
// discards it if the writer is nil. When the writer fails, failed is called once
// and the rest is discarded.
func NewOutput(writer io.Writer, failed func()) *Output {
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

// Silence has all further output discarded. When it returns, the writer is not
// used anymore.
func (o *Output) Silence() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writer = nil
}

// Input is where the input of a command comes from.
type Input struct {
	reader io.Reader
	err    error
}

// NewInput returns an Input that reads from the reader.
func NewInput(reader io.Reader) *Input { return &Input{reader: reader} }

// Read implements io.Reader.
func (i *Input) Read(p []byte) (int, error) {
	n, err := i.reader.Read(p)
	if err != nil && err != io.EOF { // io.Copy takes only io.EOF itself for the end
		i.err = err
	}
	return n, err
}

// Err returns why the input ended before its end, or nil. It may be called when
// no Read is under way.
func (i *Input) Err() error { return i.err }

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy copies until either side ends, with a borrowed buffer.
func Copy(to io.Writer, from io.Reader) error {
	buffer, _ := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	// The wrappers keep io.CopyBuffer from finding ways around the buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buffer[:])
	return err
}
