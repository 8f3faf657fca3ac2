package session

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

// maxCode bounds the digits of an exit code.
const maxCode = 10

// section is the part of one output stream that belongs to one command.
type section struct {
	// before gets what comes before the part, out the part itself. Nil discards.
	before, out  io.Writer
	begins, ends []byte
	begun, over  bool
	code         []byte // what the end says
	failed       error  // of out
	*progress
}

// progress is what happens to the sections of one command.
type progress struct {
	// ended and broken get a value for each section that has ended, or whose writer
	// has failed.
	ended, broken chan struct{}
}

func newProgress() *progress {
	return &progress{ended: make(chan struct{}, 2), broken: make(chan struct{}, 2)}
}

// scanner finds the sections of commands in one output stream. What is in none is
// dropped. It never fails, since the shell must be read on.
type scanner struct {
	// mu is held while writing, so whoever takes a section away waits for that.
	mu      sync.Mutex
	current *section
	// held is the end of what came that may be the beginning of a marker.
	held []byte
}

// expect makes a section the next one. The one before must have been dismissed.
func (s *scanner) expect(next *section) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.held = next, nil
}

// dismiss drops what comes from now on, and waits for a write that goes on. At the
// end of the stream, what is held was no marker.
func (s *scanner) dismiss(atEnd bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.current; atEnd && c != nil && c.begun {
		c.write(s.held)
	}
	s.current, s.held = nil, nil
}

// Write implements io.Writer.
func (s *scanner) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := p
	if len(s.held) > 0 {
		rest = slices.Concat(s.held, p)
		s.held = nil
	}
	for len(rest) > 0 && s.current != nil {
		rest = s.scan(s.current, rest)
	}
	return len(p), nil
}

// scan takes data up to the next marker, and returns what follows it.
func (s *scanner) scan(c *section, data []byte) []byte {
	switch {
	case c.over:
		return nil
	case !c.begun:
		noise, rest, found := s.cut(data, c.begins)
		c.skip(noise)
		c.begun = found
		return rest
	}
	output, rest, found := s.cut(data, c.ends)
	c.write(output)
	if !found {
		return nil
	}
	code, after, complete := bytes.Cut(rest, []byte{'\n'})
	switch {
	case len(code) > maxCode: // it only looked like a marker
		c.write(c.ends)
		return rest
	case !complete:
		s.held = append(bytes.Clone(c.ends), rest...)
		return nil
	}
	c.end(code)
	return after
}

// cut splits data around a marker. Without one it holds back what may be the
// beginning of it.
func (s *scanner) cut(data, marker []byte) (before, after []byte, found bool) {
	before, after, found = bytes.Cut(data, marker)
	if found {
		return before, after, true
	}
	keep := len(data) - overlap(data, marker)
	s.held = bytes.Clone(data[keep:])
	return data[:keep], nil, false
}

// overlap is the length of the longest end of data with which the marker begins.
func overlap(data, marker []byte) int {
	for n := min(len(data), len(marker)-1); n > 0; n-- {
		if bytes.HasPrefix(marker, data[len(data)-n:]) {
			return n
		}
	}
	return 0
}

func (c *section) skip(p []byte) {
	if c.before != nil && len(p) > 0 {
		_, _ = c.before.Write(p)
	}
}

// write passes output on until that fails once.
func (c *section) write(p []byte) {
	if c.out == nil || c.failed != nil || len(p) == 0 {
		return
	}
	n, err := c.out.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		c.failed = err
		c.broken <- struct{}{}
	}
}

func (c *section) end(code []byte) {
	c.over, c.code = true, bytes.Clone(code)
	c.ended <- struct{}{}
}
