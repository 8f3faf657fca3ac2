package sftpclient

import (
	"bytes"
	"io"
	"sync"
)

// pipeBytes is how much of a pipe is not read yet when a writer has to wait.
const pipeBytes = 256 << 10

// pipe is io.Pipe with a buffer: the library writes the head and the content of a packet
// by themselves, and both should travel in one message.
type pipe struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond
	unread  bytes.Buffer
	// ended is what Read returns behind the last byte, and closed what Write returns.
	ended, closed error
}

func newPipe() (*pipeReader, *pipeWriter) {
	p := &pipe{}
	p.changed.L = &p.mu
	return &pipeReader{p}, &pipeWriter{p}
}

type pipeReader struct{ *pipe }

// Read implements io.Reader.
func (r *pipeReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.unread.Len() == 0 && r.ended == nil && r.closed == nil {
		r.changed.Wait()
	}
	r.changed.Broadcast()
	switch {
	case r.closed != nil:
		return 0, io.ErrClosedPipe
	case r.unread.Len() == 0:
		return 0, r.ended
	}
	return r.unread.Read(p)
}

// Close implements io.Closer.
func (r *pipeReader) Close() error { return r.CloseWithError(io.ErrClosedPipe) }

// CloseWithError makes Write return an error.
func (r *pipeReader) CloseWithError(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = err
	}
	r.unread = bytes.Buffer{}
	r.changed.Broadcast()
	return nil
}

type pipeWriter struct{ *pipe }

// Write implements io.Writer. It takes all of p when there is room for the beginning.
func (w *pipeWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.unread.Len() >= pipeBytes && w.ended == nil && w.closed == nil {
		w.changed.Wait()
	}
	switch {
	case w.closed != nil:
		return 0, w.closed
	case w.ended != nil:
		return 0, io.ErrClosedPipe
	}
	w.changed.Broadcast()
	return w.unread.Write(p)
}

// Close implements io.Closer.
func (w *pipeWriter) Close() error { return w.CloseWithError(io.EOF) }

// CloseWithError makes Read return an error behind the last byte.
func (w *pipeWriter) CloseWithError(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		w.ended = err
	}
	w.changed.Broadcast()
	return nil
}
