package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func frame(stream byte, text string) []byte {
	header := [frameHeader]byte{stream}
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	return append(header[:], text...)
}

func demultiplex(from io.Reader) (stdout, stderr, said string, err error) {
	var out, errs bytes.Buffer
	o := outputs{stdout: &out, stderr: &errs, refusal: refusal{never: func() bool { return false }}}
	err = o.demultiplex(bufio.NewReader(from))
	return out.String(), errs.String(), string(o.said), err
}

func TestFramesArePassedOnByStream(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 100<<10))
	whole := bytes.Join([][]byte{frame(1, "a"), frame(2, "b"), frame(1, ""), frame(0, "c"), frame(3, "no"), frame(2, long)}, nil)
	for name, reader := range map[string]io.Reader{
		"at once": bytes.NewReader(whole), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole)),
	} {
		stdout, stderr, said, err := demultiplex(reader)
		if stdout != "ac" || stderr != "b"+long || said != "no" || err != nil {
			t.Errorf("%s: output %q, errors of %d bytes, the engine said %q, error %v", name, stdout, len(stderr), said, err)
		}
	}
}

func TestAStreamThatEndsInAFrameIsNotWhole(t *testing.T) {
	whole := frame(1, "some text")
	for length := 1; length < len(whole); length++ {
		if _, _, _, err := demultiplex(bytes.NewReader(whole[:length])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: error %v, want %v", length, err, io.ErrUnexpectedEOF)
		}
	}
	if _, _, _, err := demultiplex(bytes.NewReader(frame(7, "x"))); err == nil || isNetwork(err) {
		t.Errorf("an unknown stream: error %v", err)
	}
}

func TestTheEnginesMessagesAreBounded(t *testing.T) {
	many := bytes.Repeat(frame(3, string(make([]byte, 900))), 100)
	if _, _, said, err := demultiplex(bytes.NewReader(many)); len(said) != maxEngineWords || err != nil {
		t.Errorf("%d bytes kept, error %v", len(said), err)
	}
}

// FuzzFrames takes any bytes. The output is never larger than the input, and does not
// depend on how the bytes arrive.
func FuzzFrames(f *testing.F) {
	f.Add(frame(1, "text"))
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'x'})
	f.Add(frame(9, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		stdout, stderr, said, err := demultiplex(bytes.NewReader(data))
		if len(stdout)+len(stderr)+len(said) > len(data) {
			t.Errorf("%d bytes came of %d", len(stdout)+len(stderr)+len(said), len(data))
		}
		stdout2, stderr2, said2, err2 := demultiplex(iotest.OneByteReader(bytes.NewReader(data)))
		if stdout != stdout2 || stderr != stderr2 || said != said2 || (err == nil) != (err2 == nil) {
			t.Errorf("byte by byte it is %q, %q, %q, %v instead of %q, %q, %q, %v", stdout2, stderr2, said2, err2, stdout, stderr, said, err)
		}
	})
}
