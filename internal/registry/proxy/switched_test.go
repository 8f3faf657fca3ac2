package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/registry/registrytest"
)

// upgrade is an API that takes every connection over.
func upgrade(protocol string, serve func(net.Conn, io.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), protocol) {
			http.Error(w, "upgrade to "+protocol, http.StatusBadRequest)
			return
		}
		conn, buffers, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
		serve(conn, buffers)
	}
}

// connection is the client's end after it has asked for an upgrade.
type connection struct {
	*tls.Conn

	// reader has what was read with the answer.
	reader *bufio.Reader
	status int
	header http.Header
}

// switchTo asks for another protocol, with words sent ahead of the answer.
func switchTo(t *testing.T, server *httptest.Server, protocol, ahead string) connection {
	t.Helper()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "POST "+registrytest.ProxyPath+"/attach?stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "+protocol+
		"\r\nAuthorization: Bearer canary\r\n\r\n"+ahead)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return connection{conn.(*tls.Conn), reader, response.StatusCode, response.Header}
}

// ended waits for the end of all uses and wants an audit line.
func (f *fixture) ended(want string) {
	f.Helper()
	if err := f.Wait(f.Context()); err != nil {
		f.Fatal(err)
	}
	if !strings.Contains(f.Audit(), want) {
		f.Errorf("audit does not contain %s: %s", want, f.Audit())
	}
}

// The docker client attaches to a container with tcp, builds use h2c, and kubectl
// speaks WebSocket and SPDY. The end of the input is not the end of the output.
func TestOutputFollowsTheEndOfInput(t *testing.T) {
	for _, protocol := range []string{"tcp", "h2c", "websocket", "SPDY/3.1"} {
		t.Run(protocol, func(t *testing.T) {
			proxied(t, upgrade(protocol, func(conn net.Conn, in io.Reader) {
				all, _ := io.ReadAll(in)
				_, _ = conn.Write(append([]byte("got "), all...))
			}), func(f *fixture, server *httptest.Server) {
				conn := switchTo(t, server, protocol, "early, ")
				if conn.status != http.StatusSwitchingProtocols || conn.header.Get("Upgrade") != protocol ||
					conn.header.Get("Connpool-Target") != "build-1" || conn.header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
					t.Fatalf("answered %d, %v", conn.status, conn.header)
				}
				_, _ = io.WriteString(conn, "late")
				_ = conn.CloseWrite()
				if got, err := io.ReadAll(conn.reader); string(got) != "got early, late" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				_ = conn.Close()
				f.ended(`"outcome"="Completed" "reason"="" "bytesIn"=11 "bytesOut"=15 "status"=101`)
				if !strings.Contains(f.Audit(), `"transport"="`+strings.ToLower(protocol)+`"`) {
					t.Errorf("audit says %s", f.Audit())
				}
			})
		})
	}
}

func TestInputFollowsTheEndOfOutput(t *testing.T) {
	received := make(chan string, 1)
	proxied(t, upgrade("tcp", func(conn net.Conn, in io.Reader) {
		_, _ = io.WriteString(conn, "bye")
		_ = conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(in)
		received <- string(all)
	}), func(f *fixture, server *httptest.Server) {
		conn := switchTo(t, server, "tcp", "")
		if got, err := io.ReadAll(conn.reader); string(got) != "bye" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = io.WriteString(conn, "still here")
		_ = conn.Close()
		if got := <-received; got != "still here" {
			t.Errorf("the target got %q", got)
		}
		f.ended(`"outcome"="Completed"`)
	})
}

// idle takes a connection and says when its end has come.
func idle(ended chan<- struct{}) func(net.Conn, io.Reader) {
	return func(conn net.Conn, in io.Reader) {
		_, _ = io.Copy(io.Discard, in)
		for {
			if _, err := conn.Write([]byte("x")); err != nil {
				close(ended)
				return
			}
		}
	}
}

// waiting takes a connection and neither reads nor writes until its test is over.
func waiting(over <-chan struct{}) func(net.Conn, io.Reader) {
	return func(net.Conn, io.Reader) { <-over }
}

// A client that has ended its input and then leaves is noticed, although the proxy
// sends nothing to it and reads nothing from it.
func TestAClientThatLeavesAfterItsInputIsMissed(t *testing.T) {
	over := make(chan struct{})
	proxied(t, upgrade("tcp", waiting(over)), func(f *fixture, server *httptest.Server) {
		defer close(over)
		conn := switchTo(t, server, "tcp", "")
		_ = conn.CloseWrite()
		_ = conn.NetConn().Close()
		f.ended(`"outcome"="Completed"`)
	})
}

func TestAnUpgradedConnectionEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	proxied(t, upgrade("tcp", idle(ended)), func(f *fixture, server *httptest.Server) {
		conn := switchTo(t, server, "tcp", "")
		_ = conn.NetConn().Close()
		<-ended
		f.ended(`"outcome"="Completed"`)
	})
}

func TestWhatEndsAnUpgradedConnection(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*fixture)
		want string
	}{
		"its connection dies": {func(f *fixture) { f.Fake.Live()[0].Kill(nil) }, `"outcome"="Unknown" "reason"="Unreachable"`},
		"the operator stops":  {func(f *fixture) { f.Gate.Cancel() }, `"outcome"="Unknown" "reason"="ShuttingDown"`},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			proxied(t, upgrade("tcp", waiting(over)), func(f *fixture, server *httptest.Server) {
				defer close(over)
				conn := switchTo(t, server, "tcp", "")
				test.end(f)
				if got, err := io.ReadAll(conn.reader); err == nil {
					t.Errorf("%q looks whole", got)
				}
				f.ended(test.want)
			})
		})
	}
}

// The connection ends with the permission although neither side reads.
func TestARevokedPermissionCutsAnUpgradedConnection(t *testing.T) {
	inFixture(t, func(f *fixture) {
		near, far := net.Pipe()
		defer far.Close()
		f.Engine(registrytest.Switching{End: near})
		dial, stop := pipeline(f)
		defer stop()
		client := dial()
		defer client.Close()
		_, _ = io.WriteString(client, "GET "+registrytest.ProxyPath+"/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		go func() { _, _ = far.Write([]byte("this is not read")) }()
		f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil)
		f.ended(`"outcome"="Unknown" "reason"="PermissionRevoked"`)
	})
}

func TestUpgradesThatFail(t *testing.T) {
	for name, test := range map[string]struct {
		api  http.HandlerFunc
		code int
		want string
	}{
		"the target refuses": {
			func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such container", http.StatusNotFound) },
			http.StatusNotFound, `"outcome"="Completed" "reason"="" "bytesIn"=0 "bytesOut"=18 "status"=404`,
		},
		"the target speaks another protocol": {
			func(w http.ResponseWriter, _ *http.Request) {
				conn, _, _ := http.NewResponseController(w).Hijack()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}, http.StatusBadGateway, `"outcome"="Unknown" "reason"="ProtocolError"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxied(t, test.api, func(f *fixture, server *httptest.Server) {
				conn := switchTo(t, server, "tcp", "")
				if conn.status != test.code {
					t.Errorf("answered %d", conn.status)
				}
				f.ended(test.want)
			})
		})
	}
}

func TestAConnectionWithoutHalvesEndsAsAWhole(t *testing.T) {
	near, _ := net.Pipe()
	defer near.Close()
	c := &clientEnd{Conn: near, life: new(lifetime)}
	if err := c.CloseWrite(); err == nil {
		t.Error("half of it has ended")
	}
}
