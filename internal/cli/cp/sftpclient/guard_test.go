package sftpclient

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

// packet returns a packet of a type with a body.
func packet(kind byte, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), append([]byte{kind}, body...)...)
}

type noCloser struct{ io.Writer }

func (noCloser) Close() error { return nil }

func TestPermissionsAreAddedToTheRequestForTheirPathOnly(t *testing.T) {
	open := func(path string, end ...byte) []byte {
		return packet(typeOpen, append(append([]byte{0, 0, 0, 7, 0, 0, 0, 1}, path...), append([]byte{0, 0, 0, 26}, end...)...)...)
	}
	none := []byte{0, 0, 0, 0}
	g, sent := &guard{}, &bytes.Buffer{}
	g.make("a", 0o640)
	requests := g.requests(noCloser{sent})
	for _, path := range []string{"b", "a", "a"} {
		if _, err := requests.Write(open(path, none...)); err != nil {
			t.Fatal(err)
		}
	}
	want := append(append(open("b", none...), open("a", 0, 0, 0, 4, 0, 0, 1, 0o240)...), open("a", none...)...)
	if !bytes.Equal(sent.Bytes(), want) {
		t.Errorf("sent %v, want %v", sent.Bytes(), want)
	}
}

func TestAnswersInAnyPiecesAreCounted(t *testing.T) {
	g := &guard{}
	requests := g.requests(noCloser{io.Discard})
	for range 3 {
		_, _ = requests.Write(packet(typeName, 0, 0, 0, 1))
	}
	var got bytes.Buffer
	out := g.answers(&got)
	all := append(packet(typeVersion, 0, 0, 0, 3), packet(typeName, 0, 0, 0, 1, 0, 0, 0, 2, 'x')...)
	all = append(all, packet(101, 0, 0, 0, 2)...)
	for _, b := range all {
		if _, err := out.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), all) || g.silence() != 0 || g.entries != 2 || g.said() != "" || g.err() != nil {
		t.Errorf("passed on %v; %+v", got.Bytes(), g)
	}
}

func TestWhatIsNoPacketIsKeptAsAGreeting(t *testing.T) {
	g := &guard{}
	_, _ = g.answers(io.Discard).Write([]byte("He"))
	_, _ = g.answers(io.Discard).Write([]byte("llo"))
	if g.said() != "Hello" {
		t.Errorf("the greeting is %q", g.said())
	}
}
