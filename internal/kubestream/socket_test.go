package kubestream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

func TestARefusedUpgradeReturnsTheAnswer(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = http.ReadRequest(bufio.NewReader(far))
		_, _ = io.WriteString(far, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
	}()
	_, body, err := upgrade(t.Context(), near, ExecProtocol, Heartbeat{})
	if !errors.Is(err, websocket.ErrBadHandshake) || body != "no" {
		t.Errorf("answer %q, error %v", body, err)
	}
}

func TestAProtocolThatWasNotAskedForIsRefused(t *testing.T) {
	near, far := net.Pipe()
	go accept(t, far, "v4.channel.k8s.io")
	_, _, err := upgrade(t.Context(), near, ExecProtocol, Heartbeat{})
	if !errors.Is(err, ErrSubprotocol) || !strings.Contains(err.Error(), "v4.channel.k8s.io") {
		t.Errorf("error %v", err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is open: %v", err)
	}
}

func TestAnUpgradeThatIsNotAnsweredEndsWithItsContext(t *testing.T) {
	errMine := errors.New("mine")
	near, far := net.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		_, _ = http.ReadRequest(bufio.NewReader(far))
		cancel(errMine)
	}()
	_, _, err := upgrade(ctx, near, ExecProtocol, Heartbeat{})
	if !errors.Is(err, errMine) {
		t.Errorf("error %v", err)
	}
}

func TestClosingASocketSaysGoodbye(t *testing.T) {
	socket, server := pair(t, ExecProtocol, Heartbeat{})
	got := make(chan error, 1)
	go func() {
		_, _, err := server.NextReader()
		got <- err
	}()
	_ = socket.Close()
	if err := <-got; !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the server read %v", err)
	}
}

func TestClosingASocketWhoseServerDoesNotReadTakesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		socket, _ := pair(t, ExecProtocol, Heartbeat{})
		go func() { _ = socket.send([]byte("stuck")) }()
		synctest.Wait()
		begin := time.Now()
		_ = socket.Close()
		if took := time.Since(begin); took != lastWords {
			t.Errorf("it took %s", took)
		}
	})
}

// A server that is given up is silent for longer than patience and no longer than
// that and a ping.
const (
	ping     = 5 * time.Second
	patience = 30 * time.Second
)

func TestWhenAServerIsDead(t *testing.T) {
	pings, answers := Heartbeat{ping, patience, true}, Heartbeat{ping, patience, false}
	tests := map[string]struct {
		heartbeat Heartbeat
		stdin     string
		// takesFor is how long the server takes messages and answers pings.
		takesFor time.Duration
		// sends is what the server sends by itself every ping.
		sends int
		dead  bool
	}{
		"one that pings unasked and falls silent is dead":                   {heartbeat: pings, takesFor: time.Minute, dead: true},
		"one that pings unasked is dead, though it has not taken the input": {heartbeat: pings, stdin: "in", dead: true},
		"one that pings unasked and goes on is alive":                       {heartbeat: pings, stdin: "in", sends: websocket.PingMessage},
		"one that sends data is alive":                                      {heartbeat: pings, sends: websocket.BinaryMessage},
		"one that answers pings is alive":                                   {heartbeat: answers, stdin: "in", takesFor: 2 * time.Hour},
		"one that was sent nothing and is silent is dead":                   {heartbeat: answers, dead: true},
		"one that has confirmed all input and falls silent is dead":         {heartbeat: answers, stdin: "in", takesFor: time.Minute, dead: true},
		"one that has not taken the input may be busy":                      {heartbeat: answers, stdin: "in"},
		"one of which no sign of life is expected may be silent":            {},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				socket, server := pair(t, ExecProtocol, test.heartbeat)
				begin := time.Now()
				_ = server.SetReadDeadline(begin.Add(test.takesFor))
				if test.takesFor > 0 {
					go drain(server)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				go sendEvery(ctx, server, test.sends, ping)
				_, err := Run(ctx, socket, Streams{Stdin: strings.NewReader(test.stdin), StdinStaysOpen: true})
				took := time.Since(begin)
				switch {
				case !test.dead && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("given up after %s: %v", took, err)
				case test.dead && !errors.Is(err, ErrSilent):
					t.Errorf("error %v", err)
				case test.dead && (took <= patience || took > test.takesFor+patience+ping):
					t.Errorf("given up after %s", took)
				}
			})
		})
	}
}

// sendEvery sends a ping or an empty message now and then; 0 is nothing.
func sendEvery(ctx context.Context, server *websocket.Conn, kind int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for kind != 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if server.WriteMessage(kind, nil) != nil {
			return
		}
	}
}

func TestASlowWriterIsNotTakenForASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		socket, server := pair(t, ExecProtocol, Heartbeat{ping, patience, true})
		go drain(server)
		go func() {
			_ = server.WriteMessage(websocket.BinaryMessage, []byte("\x01output"))
			_ = server.WriteMessage(websocket.BinaryMessage, []byte("\x03{}"))
		}()
		slow := writerFunc(func(p []byte) (int, error) {
			time.Sleep(time.Hour)
			return len(p), nil
		})
		if _, err := Run(t.Context(), socket, Streams{Stdout: slow}); err != nil {
			t.Error(err)
		}
	})
}

func TestAServerIsPingedOnlyWhenItIsSilentUnlessItExpectsIt(t *testing.T) {
	tests := map[string]struct {
		peerPings bool
		want      int
	}{
		"one that expects pings gets them":    {true, 11},
		"one that sends output is not pinged": {false, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				socket, server := pair(t, ExecProtocol, Heartbeat{ping, patience, test.peerPings})
				pings := 0
				server.SetPingHandler(func(string) error {
					pings++
					return nil
				})
				go drain(server)
				ctx, cancel := context.WithTimeout(t.Context(), 11*ping+ping/2)
				defer cancel()
				go sendEvery(ctx, server, websocket.BinaryMessage, ping-time.Second)
				_, _ = Run(ctx, socket, Streams{})
				_ = server.Close()
				synctest.Wait()
				if pings != test.want {
					t.Errorf("%d pings, want %d", pings, test.want)
				}
			})
		})
	}
}
