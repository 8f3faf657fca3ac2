package kubestream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

const succeeded = "\x03" + `{"status":"Success"}`

func TestWhatAServerSends(t *testing.T) {
	tests := map[string]struct {
		messages       []string
		stdout, stderr string
		err            error
	}{
		"output, then the status":            {[]string{"\x01out", "\x02err", "\x01put", succeeded}, "output", "err", nil},
		"an empty message means nothing":     {[]string{"", "\x01", "\x03", "\x01x", succeeded}, "x", "", nil},
		"an unknown channel is ignored":      {[]string{"\x00in", "\x04{}", "\x09?", succeeded}, "", "", nil},
		"output after the status is ignored": {[]string{succeeded, "\x01more"}, "", "", nil},
		"a status that is none":              {[]string{"\x01x", "\x03no JSON"}, "x", "", ErrProtocol},
		"a message that is too long":         {[]string{"\x01x", "\x01" + strings.Repeat("x", maxMessageBytes)}, "x", "", websocket.ErrReadLimit},
		"the longest message":                {[]string{"\x02" + strings.Repeat("x", maxMessageBytes-1), succeeded}, "", strings.Repeat("x", maxMessageBytes-1), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			socket, server := pair(t, ExecProtocol, Heartbeat{})
			go drain(server)
			go func() {
				for _, message := range test.messages {
					if server.WriteMessage(websocket.BinaryMessage, []byte(message)) != nil {
						break
					}
				}
				_ = server.Close()
			}()
			var stdout, stderr bytes.Buffer
			status, err := Run(t.Context(), socket, Streams{Stdout: &stdout, Stderr: &stderr})
			if !errors.Is(err, test.err) || (status == nil) == (err == nil) {
				t.Errorf("status %v, error %v, want %v", status, err, test.err)
			}
			if stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("%d bytes of stdout, %d of stderr", stdout.Len(), stderr.Len())
			}
		})
	}
}

func TestACommandThatIsCutHasNoStatus(t *testing.T) {
	socket, server := pair(t, ExecProtocol, Heartbeat{})
	go func() { _ = server.Close() }()
	status, err := Run(t.Context(), socket, Streams{})
	if status != nil || err == nil {
		t.Errorf("status %v, error %v", status, err)
	}
}

// received returns what a server receives until the client goes. The command
// succeeds with the last message.
func received(server *websocket.Conn, last string) <-chan []string {
	all := make(chan []string, 1)
	go func() {
		var messages []string
		for {
			_, message, err := server.ReadMessage()
			if err != nil {
				all <- messages
				return
			}
			messages = append(messages, string(message))
			if string(message) == last {
				_ = server.WriteMessage(websocket.BinaryMessage, []byte(succeeded))
			}
		}
	}()
	return all
}

func TestWhatAClientSends(t *testing.T) {
	long := strings.Repeat("x", frameBytes)
	later := make(chan Size, 2)
	later <- Size{}
	later <- Size{Columns: 132, Rows: 43}
	close(later)
	tests := map[string]struct {
		streams Streams
		want    []string
		last    string
		err     error
	}{
		"input in messages of at most 32 KiB": {Streams{Stdin: strings.NewReader(long + "end")}, []string{"\x00" + long, "\x00end", "\xff\x00"}, "\xff\x00", nil},
		"no end of an input that stays open":  {Streams{Stdin: strings.NewReader("end"), StdinStaysOpen: true}, []string{"\x00end"}, "\x00end", nil},
		"sizes, but for those that are zero": {
			Streams{Resize: Sizes(Size{80, 24}, later)}, []string{"\x04" + `{"Width":80,"Height":24}`, "\x04" + `{"Width":132,"Height":43}`}, "", context.Canceled,
		},
		"no end of an input that fails": {
			Streams{Stdin: io.MultiReader(strings.NewReader("half"), failing(errMine))}, []string{"\x00half"}, "", errMine,
		},
		"no end of an input whose failure wraps one": {
			Streams{Stdin: failing(fmt.Errorf("cut: %w", io.EOF))}, nil, "", ErrInput,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			socket, server := pair(t, ExecProtocol, Heartbeat{})
			all := received(server, test.last)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if resize := test.streams.Resize; resize != nil {
				test.streams.Resize = func(ctx context.Context, send func(Size) error) {
					resize(ctx, send)
					cancel()
				}
			}
			if _, err := Run(ctx, socket, test.streams); !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, <-all); diff != "" {
				t.Error(diff)
			}
		})
	}
}

var errMine = errors.New("mine")

func failing(err error) io.Reader { return readerFunc(func([]byte) (int, error) { return 0, err }) }

func TestAWriterThatFailsEndsTheCommand(t *testing.T) {
	socket, server := pair(t, ExecProtocol, Heartbeat{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		drain(server)
	}()
	go func() { _ = server.WriteMessage(websocket.BinaryMessage, []byte("\x01output")) }()
	_, err := Run(t.Context(), socket, Streams{Stdout: writerFunc(func([]byte) (int, error) { return 0, errMine })})
	if !errors.Is(err, ErrOutput) || !errors.Is(err, errMine) {
		t.Errorf("error %v", err)
	}
	<-gone
}
