package docker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/connpool/connpool/internal/driver/stdio"
)

// The streams of a command without a terminal come as frames. The header of a frame is
// the number of its stream, three zero bytes, and the length of the data that follows.
const (
	frameHeader = 8

	streamStdin  = 0 // some engines send the output as this
	streamStdout = 1
	streamStderr = 2
	streamEngine = 3 // messages of the engine itself
)

const maxEngineWords = 1 << 10

// outputs are the destinations of frames. The writers must not fail.
type outputs struct {
	stdout, stderr io.Writer
	// said is the beginning of the engine's messages.
	said []byte
	// refusal is the message of a runtime that started nothing.
	refusal refusal
}

// demultiplex copies frames until the stream ends between two of them. It passes a
// frame on while it arrives, so the length in its header costs no memory.
func (o *outputs) demultiplex(from *bufio.Reader) error {
	var header [frameHeader]byte
	frame := &io.LimitedReader{R: from}
	for first := true; ; first = false {
		if _, err := io.ReadFull(from, header[:]); err != nil {
			if errors.Is(err, io.EOF) { // not in the middle of a header
				return nil
			}
			return err
		}
		to, err := o.of(header[0])
		if err != nil {
			return err
		}
		frame.N = int64(binary.BigEndian.Uint32(header[4:]))
		if first && o.refusal.takes(header[0], frame.N, from) {
			to = &o.refusal
		}
		if err := stdio.Copy(to, frame); err != nil {
			return err
		}
		if frame.N > 0 {
			return io.ErrUnexpectedEOF
		}
	}
}

func (o *outputs) of(stream byte) (io.Writer, error) {
	switch stream {
	case streamStdin, streamStdout:
		return o.stdout, nil
	case streamStderr:
		return o.stderr, nil
	case streamEngine:
		return (*remarks)(o), nil
	}
	return nil, fmt.Errorf("a frame of stream %d, which does not exist", stream)
}

type remarks outputs

func (w *remarks) Write(p []byte) (int, error) {
	w.said = append(w.said, p[:min(len(p), maxEngineWords-len(w.said))]...)
	return len(p), nil
}
