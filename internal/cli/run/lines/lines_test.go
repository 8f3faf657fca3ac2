package lines

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestProgressIsSaidEverySomeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := ShowProgress(NewMixer(io.Discard, &out, nil), 12)
		time.Sleep(sayEvery + time.Second)
		for range 7 {
			p.Add()
		}
		time.Sleep(3 * sayEvery)
		p.Stop()
		if out.String() != "7 of 12 done\n" {
			t.Errorf("said %q", &out)
		}
	})
}

func TestProgressOnATerminalIsBelowTheLastLine(t *testing.T) {
	keys, screen := clitest.Keyboard(t)
	mixer := NewMixer(screen, screen, []string{"web-1", "web-2"})
	mixer.paint = false
	p := ShowProgress(mixer, 2)
	p.Add()
	shown := make([]byte, len("1 of 2 done"))
	if _, err := io.ReadFull(keys, shown); err != nil || string(shown) != "1 of 2 done" {
		t.Errorf("shown %q, %v", shown, err)
	}
	w, _ := mixer.Writers("web-1")
	_, _ = io.WriteString(w, "a line\n")
	p.Stop()
	if line, err := bufio.NewReader(keys).ReadString('\n'); line != "\r\x1b[Kweb-1 | a line\r\n" || err != nil {
		t.Errorf("then %q, %v", line, err)
	}
}

func TestLinesOfTargetsAreNeverMixed(t *testing.T) {
	var out bytes.Buffer
	mixer := NewMixer(&out, io.Discard, []string{"a", "long"})
	a, _ := mixer.Writers("a")
	long, _ := mixer.Writers("long")
	for _, step := range []struct {
		to   *Writer
		text string
	}{{a, "be"}, {long, "1\n2\n3"}, {a, "gun\n\n"}, {a, strings.Repeat("x", maxLine)}} {
		if n, err := io.WriteString(step.to, step.text); n != len(step.text) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	a.End()
	long.End()
	want := "long | 1\nlong | 2\na    | begun\na    | \na    | " + strings.Repeat("x", maxLine) + "\nlong | 3\n"
	if out.String() != want {
		t.Errorf("printed %.200q", out.String())
	}
}

func TestATargetCannotForgeTheLinesOfAnother(t *testing.T) {
	const forged = "x\r\x1b[2Kweb-2 | all good\x9b\u009b\u202e\x07\tend\r\n"
	keys, screen := clitest.Keyboard(t)
	mixer := NewMixer(screen, screen, []string{"web-1", "web-2"})
	mixer.paint = false
	for _, writer := range []func(string) (*Writer, *Writer){
		mixer.Writers, func(target string) (*Writer, *Writer) { out, err := mixer.Writers(target); return err, out },
	} {
		w, _ := writer("web-1")
		if _, err := io.WriteString(w, forged); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(keys).ReadString('\n')
		if want := "web-1 | x^M^[[2Kweb-2 | all good\uFFFD\uFFFD\uFFFD^G\tend\r\n"; line != want || err != nil {
			t.Errorf("on a terminal: %q, %v, want %q", line, err, want)
		}
	}
	var out bytes.Buffer
	mixer = NewMixer(&out, &out, []string{"web-1", "web-2"})
	w, _ := mixer.Writers("web-1")
	_, _ = io.WriteString(w, forged)
	_, _ = io.WriteString(w, "last\r")
	w.End()
	if want := "web-1 | x\rweb-1 | " + strings.TrimPrefix(forged, "x\r") + "web-1 | last\r\n"; out.String() != want {
		t.Errorf("in a file: %q, want %q", &out, want)
	}
}
