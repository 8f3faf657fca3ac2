package stdio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

var errBroken = errors.New("broken")

type failing struct{ writes int }

func (f *failing) Write([]byte) (int, error) {
	f.writes++
	return 0, errBroken
}

func TestOutputGoesOnWhenItsWriterFails(t *testing.T) {
	writer, failures := new(failing), 0
	output := newOutput(writer, func() { failures++ })
	for range 3 {
		if n, err := output.Write([]byte("words")); n != 5 || err != nil {
			t.Errorf("wrote %d bytes, error %v, want all and none", n, err)
		}
	}
	if writer.writes != 1 || failures != 1 {
		t.Errorf("%d writes and %d failures, want one of each", writer.writes, failures)
	}
}

func TestOutputWithoutAWriterIsDiscarded(t *testing.T) {
	output := newOutput(nil, func() { t.Error("it failed") })
	if n, err := output.Write([]byte("words")); n != 5 || err != nil {
		t.Errorf("wrote %d bytes, error %v", n, err)
	}
}

type blocking struct{ entered, release chan struct{} }

func (b blocking) Write(p []byte) (int, error) {
	close(b.entered)
	<-b.release
	return len(p), nil
}

func TestSilenceWaitsForTheWriteUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writer := blocking{make(chan struct{}), make(chan struct{})}
		output := newOutput(writer, func() { t.Error("it failed") })
		go output.Write([]byte("words")) //nolint:errcheck // it never fails
		<-writer.entered
		silenced := make(chan struct{})
		go func() {
			output.silence()
			close(silenced)
		}()
		select {
		case <-silenced:
			t.Error("the writer was still in use")
		default:
		}
		close(writer.release)
		<-silenced
		if _, err := output.Write([]byte("more")); err != nil { // a second write would panic
			t.Error(err)
		}
	})
}

func TestInputRemembersThatItBrokeOff(t *testing.T) {
	tests := map[string]struct {
		reader io.Reader
		want   error
	}{
		"the end is no failure":                   {strings.NewReader("words"), nil},
		"an error is remembered":                  {io.MultiReader(strings.NewReader("words"), iotest.ErrReader(errBroken)), errBroken},
		"an error that wraps the end is no end":   {iotest.ErrReader(io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"an error that comes with data is as bad": {iotest.DataErrReader(io.MultiReader(strings.NewReader("words"), iotest.ErrReader(errBroken))), errBroken},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			from := &input{reader: tc.reader}
			_ = Copy(io.Discard, from)
			if got := from.err; !errors.Is(got, tc.want) {
				t.Errorf("error %v, want %v", got, tc.want)
			}
		})
	}
}

// onlyReader panics if the copy finds a way around the buffer.
type onlyReader struct{ io.Reader }

func (onlyReader) WriteTo(io.Writer) (int64, error) { panic("a way around the buffer") }

func TestCopyUsesTheBuffer(t *testing.T) {
	var to bytes.Buffer
	words := strings.Repeat("words ", 20_000)
	if err := Copy(&to, onlyReader{strings.NewReader(words)}); err != nil || to.String() != words {
		t.Errorf("%d bytes of %d, error %v", to.Len(), len(words), err)
	}
	if err := Copy(new(failing), strings.NewReader(words)); !errors.Is(err, errBroken) {
		t.Errorf("error %v, want %v", err, errBroken)
	}
}

// steps notes how much was asked for by each Read, and how much each Write passed on.
type steps struct {
	io.Reader

	asked, passed []int
	all           bytes.Buffer
}

func (s *steps) Read(p []byte) (int, error) {
	s.asked = append(s.asked, len(p))
	return s.Reader.Read(p)
}

func (s *steps) Write(p []byte) (int, error) {
	s.passed = append(s.passed, len(p))
	return s.all.Write(p)
}

func TestWhatComesFasterThanItIsReadIsReadInLargeSteps(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 1<<16)
	s := &steps{Reader: strings.NewReader(content)}
	if err := Copy(s, s); err != nil || s.all.String() != content {
		t.Fatalf("%d bytes arrived, error %v", s.all.Len(), err)
	}
	if len(s.asked) > 12 {
		t.Errorf("1 MiB took %d reads", len(s.asked))
	}
	small := 0
	for _, n := range s.passed {
		if n < bufferBytes {
			small++
		}
		if n > pieceBytes {
			t.Errorf("%d bytes in one write", n)
		}
	}
	if small > 1 { // the last one
		t.Errorf("%d of %d writes were not full", small, len(s.passed))
	}
}

func TestWhatComesSlowlyHoldsASmallBuffer(t *testing.T) {
	s := &steps{Reader: iotest.OneByteReader(strings.NewReader(strings.Repeat("x", 100)))}
	if err := Copy(s, s); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.asked {
		if n > bufferBytes {
			t.Fatalf("a buffer of %d bytes", n)
		}
	}
}

func TestACopyEndsWithTheErrorOfEitherSide(t *testing.T) {
	long := strings.Repeat("x", 5*bufferBytes)
	if err := Copy(new(failing), strings.NewReader(long)); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
	var got bytes.Buffer
	if err := Copy(&got, io.MultiReader(strings.NewReader(long), iotest.ErrReader(errBroken))); !errors.Is(err, errBroken) || got.String() != long {
		t.Errorf("a reader that fails: %v after %d bytes", err, got.Len())
	}
}
