package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/connpool/connpool/internal/driver"
)

// maxSizeBytes bounds the text of one terminal size.
const maxSizeBytes = 1 << 10

// sizes reads window sizes from the JSON objects that a client sends about its
// terminal. One goroutine writes and closes.
type sizes struct {
	pending []byte
	// broken means that the text is not JSON, so that the rest is ignored.
	broken bool
	// newest holds the last size, unless it was received.
	newest chan driver.WindowSize
}

func newSizes() *sizes {
	return &sizes{newest: make(chan driver.WindowSize, 1)}
}

// Write takes all of p, and never fails. Sizes that make no sense are ignored.
func (s *sizes) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !s.broken; {
		n := min(len(rest), maxSizeBytes)
		s.pending = append(s.pending, rest[:n]...)
		rest = rest[n:]
		s.parse()
	}
	return len(p), nil
}

func (s *sizes) close() { close(s.newest) }

// parse removes every complete object from pending.
func (s *sizes) parse() {
	decoder := json.NewDecoder(bytes.NewReader(s.pending))
	var done int64
	for {
		var size struct {
			Width  uint16 `json:"Width"`
			Height uint16 `json:"Height"`
		}
		err := decoder.Decode(&size)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if _, skip := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !skip {
			s.broken, s.pending = true, nil
			return
		}
		done = decoder.InputOffset()
		if err == nil && size.Width > 0 && size.Height > 0 {
			s.offer(driver.WindowSize{Columns: size.Width, Rows: size.Height})
		}
	}
	s.pending = bytes.TrimLeft(s.pending[done:], " \t\r\n")
	s.broken = len(s.pending) > maxSizeBytes
}

// offer replaces a size that was not received yet: only the newest matters.
func (s *sizes) offer(size driver.WindowSize) {
	select {
	case <-s.newest:
	default:
	}
	s.newest <- size
}
