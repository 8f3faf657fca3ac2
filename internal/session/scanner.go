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
	begins, ends []byte // the markers
	begun, over  bool   // which of the markers have come
	code         []byte // what follows the second marker
	failure      error  // of out
	progress     *progress
}

// progress tells of the two sections of one command.
type progress struct {
	// ended gets a value for each section that has ended, failed for each whose
	// writer has failed.
	ended, failed chan struct{}
}

func newProgress() *progress {
	return &progress{ended: make(chan struct{}, 2), failed: make(chan struct{}, 2)}
}

// scanner finds the sections of commands in one output stream. It drops what is in
// no section. It never fails, because the shell's output must be read on.
type scanner struct {
	// mu is held during a write to a section, so dismiss waits for that write.
	mu      sync.Mutex
	current *section
	// held is the end of the data so far, if it may be the beginning of a marker.
	held []byte
}

// expect makes next the current section. The one before must have been dismissed.
func (s *scanner) expect(next *section) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.held = next, nil
}

// dismiss drops the current section and waits for a write to it. If the stream is at
// its end, the held data was not a marker, and the section gets it.
func (s *scanner) dismiss(atEnd bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.current; atEnd && c != nil && c.begun {
		c.write(s.held)
	}
	s.current, s.held = nil, nil
}

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

// scan handles the data up to the next marker, and returns what follows the marker.
func (s *scanner) scan(c *section, data []byte) []byte {
	switch {
	case c.over:
		return nil
	case !c.begun:
		skipped, rest, found := s.cut(data, c.begins)
		c.skip(skipped)
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

// cut splits data around a marker. Without a marker it holds back the end of the data
// that may be the beginning of one.
func (s *scanner) cut(data, marker []byte) (before, after []byte, found bool) {
	before, after, found = bytes.Cut(data, marker)
	if found {
		return before, after, true
	}
	keep := len(data) - overlap(data, marker)
	s.held = bytes.Clone(data[keep:])
	return data[:keep], nil, false
}

// overlap returns the length of the longest end of data with which the marker begins.
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

// write passes output on until a write fails.
func (c *section) write(p []byte) {
	if c.out == nil || c.failure != nil || len(p) == 0 {
		return
	}
	n, err := c.out.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		c.failure = err
		c.progress.failed <- struct{}{}
	}
}

func (c *section) end(code []byte) {
	c.over, c.code = true, bytes.Clone(code)
	c.progress.ended <- struct{}{}
}
