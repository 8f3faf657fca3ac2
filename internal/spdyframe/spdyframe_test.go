package spdyframe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/spdystream/spdy"

	"github.com/connpool/connpool/internal/spdyframe"
)

// control returns a control frame of a kind with this body.
func control(kind spdyframe.Kind, body ...byte) []byte {
	frame := binary.BigEndian.AppendUint16([]byte{0x80, 3}, uint16(kind))
	return append(binary.BigEndian.AppendUint32(frame, uint32(len(body))), body...)
}

// data returns the header of a data frame of a length.
func data(stream, length uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, stream), length)
}

func TestFramesOutOfBoundsAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"data of the greatest length": {data(1, spdyframe.MaxBytes), nil},
		"data that is longer":         {data(1, spdyframe.MaxBytes+1), spdyframe.ErrTooLong},
		"a long control frame":        {[]byte{0x80, 3, 0, byte(spdyframe.Headers), 0, 0, 0x40, 1}, spdyframe.ErrTooLong},
		"a ping":                      {control(spdyframe.Ping, 0, 0, 0, 1), nil},
		"a ping without an ID":        {control(spdyframe.Ping), spdyframe.ErrMalformed},
		"a ping with more":            {control(spdyframe.Ping, 0, 0, 0, 1, 0), spdyframe.ErrMalformed},
		"a reset":                     {control(spdyframe.RstStream, 0, 0, 0, 1, 0, 0, 0, 5), nil},
		"a reset without a status":    {control(spdyframe.RstStream, 0, 0, 0, 1), spdyframe.ErrMalformed},
		"a reset that hides a frame":  {control(spdyframe.RstStream), spdyframe.ErrMalformed},
		"a stream without fields":     {control(spdyframe.SynStream, 0, 0, 0, 1), spdyframe.ErrMalformed},
		"a window with more":          {control(spdyframe.WindowUpdate, 0, 0, 0, 1, 0, 0, 0, 1, 0), spdyframe.ErrMalformed},
		"settings":                    {control(spdyframe.Settings, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 100), nil},
		"settings with more":          {control(spdyframe.Settings, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 100), spdyframe.ErrMalformed},
		"settings with less":          {control(spdyframe.Settings, 0x20, 0, 0, 0), spdyframe.ErrMalformed},
		"a kind that does not exist":  {control(5, 0, 0, 0, 1), spdyframe.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			var cursor spdyframe.Cursor
			if err := cursor.Advance(c.frame, nil); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// looked is a reader that notes the frames that a cursor sees.
type looked struct {
	io.Reader

	cursor spdyframe.Cursor
	kinds  []spdyframe.Kind
}

func (l *looked) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err := l.cursor.Advance(p[:n], func(frame spdyframe.Frame) error {
		l.kinds = append(l.kinds, frame.Kind)
		return nil
	}); err != nil {
		return 0, err
	}
	return n, err
}

// read returns the kinds of the frames that the library takes, and those that the
// cursor saw.
func read(t *testing.T, stream []byte) (taken, seen []spdyframe.Kind) {
	t.Helper()
	l := &looked{Reader: bytes.NewReader(stream)}
	framer, err := spdy.NewFramerWithOptions(io.Discard, l, spdyframe.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return taken, l.kinds
		}
		taken = append(taken, kindOf(frame))
	}
}

func kindOf(frame spdy.Frame) spdyframe.Kind {
	switch frame.(type) {
	case *spdy.SynStreamFrame:
		return spdyframe.SynStream
	case *spdy.SynReplyFrame:
		return spdyframe.SynReply
	case *spdy.RstStreamFrame:
		return spdyframe.RstStream
	case *spdy.SettingsFrame:
		return spdyframe.Settings
	case *spdy.PingFrame:
		return spdyframe.Ping
	case *spdy.GoAwayFrame:
		return spdyframe.GoAway
	case *spdy.HeadersFrame:
		return spdyframe.Headers
	case *spdy.WindowUpdateFrame:
		return spdyframe.WindowUpdate
	}
	return spdyframe.Data
}

// stockFrames are frames of every kind, as the library writes them.
func stockFrames(t testing.TB) []byte {
	t.Helper()
	var stream bytes.Buffer
	framer, err := spdy.NewFramer(&stream, nil)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Streamtype": {"data"}}
	for _, frame := range []spdy.Frame{
		&spdy.SynStreamFrame{StreamId: 1, Headers: header}, &spdy.SynReplyFrame{StreamId: 1, Headers: header},
		&spdy.DataFrame{StreamId: 1, Data: []byte("hello")}, &spdy.DataFrame{StreamId: 1, Flags: spdy.DataFlagFin},
		&spdy.HeadersFrame{StreamId: 1, Headers: header}, &spdy.PingFrame{Id: 2},
		&spdy.RstStreamFrame{StreamId: 1, Status: spdy.Cancel}, &spdy.WindowUpdateFrame{StreamId: 1, DeltaWindowSize: 1},
		&spdy.SettingsFrame{FlagIdValues: []spdy.SettingsFlagIdValue{{Id: 4, Value: 100}}}, &spdy.GoAwayFrame{LastGoodStreamId: 1},
	} {
		if err := framer.WriteFrame(frame); err != nil {
			t.Fatal(err)
		}
	}
	return stream.Bytes()
}

func TestTheLibrarysOwnFramesAreSeenAndTaken(t *testing.T) {
	taken, seen := read(t, stockFrames(t))
	if diff := cmp.Diff(taken, seen); diff != "" || len(taken) != 10 {
		t.Errorf("took %d frames (-taken +seen):\n%s", len(taken), diff)
	}
}

// No bytes make the library take a frame that the cursor has not seen.
func FuzzTheLibraryTakesWhatTheCursorSaw(f *testing.F) {
	f.Add(stockFrames(f))
	f.Add(append(control(spdyframe.RstStream), data(1, 64)...))
	f.Add(append(control(spdyframe.Settings, 0, 0, 0, 0, 0, 0, 0, 1), control(spdyframe.Ping, 0, 0, 0, 2)...))
	f.Add(append(control(spdyframe.Ping, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3), 0, 0, 0))
	f.Fuzz(func(t *testing.T, stream []byte) {
		taken, seen := read(t, stream)
		if len(taken) > len(seen) || !slices.Equal(taken, seen[:len(taken)]) {
			t.Errorf("the library took %v, the cursor saw %v", taken, seen)
		}
	})
}
