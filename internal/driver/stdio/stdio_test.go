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
