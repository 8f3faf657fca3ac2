package kubestream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// serverTunnel is the server's end of a tunnel.
type serverTunnel struct {
	net.Conn

	reader io.Reader
	socket *websocket.Conn
}

func (s serverTunnel) Read(p []byte) (int, error) { return s.reader.Read(p) }

func (s serverTunnel) Write(p []byte) (int, error) {
	return len(p), s.socket.WriteMessage(websocket.BinaryMessage, p)
}

// service serves one connection: its data, and the stream for its report.
type service func(data, report httpstream.Stream)

// portServer returns a socket whose server hands each connection to serve.
func portServer(t *testing.T, serve service) *Socket {
	t.Helper()
	socket, server := pair(t, ForwardProtocol, Heartbeat{})
	reports := make(chan httpstream.Stream, 1)
	streams, err := spdy.NewServerConnection(serverTunnel{server.NetConn(), websocket.JoinMessages(server, ""), server},
		func(stream httpstream.Stream, replySent <-chan struct{}) error {
			if stream.Headers().Get("Streamtype") == "error" {
				reports <- stream
				return nil
			}
			report := <-reports
			go func() {
				<-replySent
				serve(stream, report)
			}()
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = streams.Close() })
	return socket
}

func echo(data, report httpstream.Stream) {
	_, _ = io.Copy(data, data)
	_, _ = report.Close(), data.Close()
}

// reach opens a connection in both ways: the only one of a socket, and one of many.
func reach(t *testing.T, serve service, test func(t *testing.T, conn *Conn)) {
	t.Helper()
	ways := map[string]func(context.Context, *Socket, string) (*Conn, error){
		"alone": DialSingle,
		"among others": func(ctx context.Context, socket *Socket, port string) (*Conn, error) {
			forwarder, err := NewForwarder(socket)
			if err != nil {
				return nil, err
			}
			t.Cleanup(forwarder.Close)
			return forwarder.Dial(ctx, port)
		},
	}
	for name, dial := range ways {
		t.Run(name, func(t *testing.T) {
			conn, err := dial(t.Context(), portServer(t, serve), "80")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // the test is over
			test(t, conn)
		})
	}
}

func TestAConnectionEndsInHalves(t *testing.T) {
	reach(t, echo, func(t *testing.T, conn *Conn) {
		data := bytes.Repeat([]byte("0123456789"), 10<<10)
		go func() {
			_, _ = conn.Write(data)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, error %v", len(got), err)
		}
		if _, err := conn.Write(data); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after the end: %v", err)
		}
	})
}

func TestAConnectionReportsWhatWentWrong(t *testing.T) {
	const long = 2 * maxReportBytes
	refuse := func(data, report httpstream.Stream) {
		_, _ = io.WriteString(report, strings.Repeat("no", long/2))
		_, _ = report.Close(), data.Close()
	}
	reach(t, refuse, func(t *testing.T, conn *Conn) {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		if report := conn.Report(time.Minute); len(report) != maxReportBytes || !strings.HasPrefix(report, "nono") {
			t.Errorf("a report of %d bytes", len(report))
		}
	})
}

func TestAReportThatDoesNotComeIsNotAwaited(t *testing.T) {
	listen := func(data, _ httpstream.Stream) {
		_ = data.Close()
		_, _ = io.Copy(io.Discard, data)
	}
	reach(t, listen, func(t *testing.T, conn *Conn) {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		if report := conn.Report(time.Millisecond); report != "" {
			t.Errorf("report %q", report)
		}
	})
}

func TestADeadlineEndsAConnectionThatIsSilent(t *testing.T) {
	reach(t, echo, func(t *testing.T, conn *Conn) {
		if err := errors.Join(
			conn.SetDeadline(time.Now().Add(time.Hour)), conn.SetDeadline(time.Time{}), conn.SetReadDeadline(time.Now()),
		); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestAClosedConnectionIsClosed(t *testing.T) {
	reach(t, echo, func(t *testing.T, conn *Conn) {
		if err := errors.Join(conn.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
		_, readErr := conn.Read(make([]byte, 1))
		_, writeErr := conn.Write([]byte("x"))
		for what, err := range map[string]error{"read": readErr, "write": writeErr, "deadline": conn.SetDeadline(time.Now())} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestADeadlineEndsAWriteThatTheServerDoesNotTake has a server that reads nothing
// from its socket after the connection is open.
func TestADeadlineEndsAWriteThatTheServerDoesNotTake(t *testing.T) {
	conn, err := DialSingle(t.Context(), portServer(t, func(httpstream.Stream, httpstream.Stream) {}), "80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	_ = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err == nil {
		_, err = conn.Write(make([]byte, frameBytes))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestClosingTheOnlyConnectionEndsTheSocket(t *testing.T) {
	socket := portServer(t, echo)
	conn, err := DialSingle(t.Context(), socket, "80")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	<-socket.done
}

func TestAServerThatOpensNothingIsGivenUpWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		socket, server := pair(t, ForwardProtocol, Heartbeat{})
		go drain(server)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := DialSingle(ctx, socket, "80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		<-socket.done
		time.Sleep(time.Minute) // the SPDY library still waits for the stream
	})
}

func TestNothingIsDialedThroughALostSocket(t *testing.T) {
	forwarder, err := NewForwarder(portServer(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := forwarder.Dial(t.Context(), "80")
	if err != nil {
		t.Fatal(err)
	}
	forwarder.socket.Cut()
	<-forwarder.Done()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || !conn.Lost() {
		t.Errorf("read: %v, lost %t", err, conn.Lost())
	}
	if _, err := forwarder.Dial(t.Context(), "80"); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	forwarder.Close()
}
