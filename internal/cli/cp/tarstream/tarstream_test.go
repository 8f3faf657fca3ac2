package tarstream

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readAll returns the names of a stream with their contents, and what ended it.
func readAll(in io.Reader) (map[string]string, error) {
	got, r := map[string]string{}, NewReader(in)
	for {
		e, err := r.Next()
		if err != nil {
			return got, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return got, err
		}
		got[e.Name] = string(content)
	}
}

// stream returns a tree of two files, with the mark of its end.
func stream(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, e := range []*Entry{{Name: ".", Mode: fs.ModeDir | 0o755}, {Name: "a", Size: 600}, {Name: "b", Size: 3}} {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat(e.Name, int(e.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAStreamIsWholeOnlyWithTheMarkOfItsEnd(t *testing.T) {
	whole := stream(t)
	want := map[string]string{".": "", "a": strings.Repeat("a", 600), "b": "bbb"}
	got, err := readAll(bytes.NewReader(whole))
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the whole stream: %v (-want +got):\n%s", err, diff)
	}
	for n := range len(whole) - 512 {
		if _, err := readAll(bytes.NewReader(whole[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestWhatFillsTheLastBlockIsRead(t *testing.T) {
	in := bytes.NewReader(append(stream(t), make([]byte, 10<<10)...))
	if _, err := readAll(in); !errors.Is(err, io.EOF) || in.Len() > 0 {
		t.Errorf("%v, %d bytes left", err, in.Len())
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAStreamThatGoesOnBehindItsEndIsRefused(t *testing.T) {
	if _, err := readAll(io.MultiReader(bytes.NewReader(stream(t)), zeros{})); err == nil || !strings.Contains(err.Error(), "after the end") {
		t.Errorf("error %v", err)
	}
}

// A sparse file of one block may stand for as many zeros as a number can name.
func TestAStreamCannotBecomeLargerThanItIs(t *testing.T) {
	block := make([]byte, 512+1024)
	copy(block, "bomb")
	copy(block[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	block[156] = tar.TypeGNUSparse
	copy(block[257:], "ustar  \x00")
	copy(block[386:], "77777777777\x0000000000000\x00") // its one piece is empty, and at its end
	copy(block[483:], "77777777777\x00")
	copy(block[148:], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	r := NewReader(bytes.NewReader(block))
	e, err := r.Next()
	if err != nil || e.Size != 1<<33-1 {
		t.Fatalf("%+v, %v: the library does not read the stream as tar does", e, err)
	}
	n, err := io.Copy(io.Discard, r)
	if err == nil || !strings.Contains(err.Error(), "more data than it announced") || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestWhatIsNoTarStreamIsSaid(t *testing.T) {
	if _, err := readAll(strings.NewReader(strings.Repeat("Welcome! ", 1000))); err == nil || !strings.Contains(err.Error(), "did not send a tar stream") {
		t.Errorf("error %v", err)
	}
}
