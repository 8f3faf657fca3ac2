package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// The hostile servers run in virtual time, on connections in memory, so that waiting
// for a deadline costs nothing.

// pipe is one direction of a connection in memory. It has a buffer, because both sides
// write their first message before they read.
type pipe struct {
	mu     sync.Mutex
	change *sync.Cond
	data   bytes.Buffer
	closed bool
	read   int
}

func newPipe() *pipe {
	p := new(pipe)
	p.change = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.data.Len() == 0 {
		if p.closed {
			return 0, io.EOF
		}
		p.change.Wait()
	}
	n, err := p.data.Read(b)
	p.read += n
	p.change.Broadcast()
	return n, err
}

// Write waits while a megabyte is unread, as a socket would.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.data.Len() > 1<<20 && !p.closed {
		p.change.Wait()
	}
	if p.closed {
		return 0, io.ErrClosedPipe
	}
	p.change.Broadcast()
	return p.data.Write(b)
}

func (p *pipe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.change.Broadcast()
}

// memoryConn is one end of two pipes.
type memoryConn struct {
	net.Conn // for the methods that are not called

	in, out *pipe
}

func (c memoryConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c memoryConn) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c memoryConn) RemoteAddr() net.Addr        { return endpointAddr{"memory", "memory"} }
func (c memoryConn) LocalAddr() net.Addr         { return endpointAddr{"memory", "memory"} }

func (c memoryConn) Close() error {
	c.in.Close()
	c.out.Close()
	return nil
}

// hostile is a server on one connection. It must return when the connection is closed.
type hostile func(net.Conn)

// env is a bubble of virtual time with a server in it.
type env struct {
	endpoint driver.Endpoint
	hostKey  ssh.Signer
	server   hostile
	running  sync.WaitGroup
	fromPeer *pipe
}

func inEnv(t *testing.T, test func(*testing.T, *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hostKey, _ := newKey(t)
		_, privateKey := newKey(t)
		w := &env{hostKey: hostKey}
		w.endpoint = endpointOf("host:22", "user", string(ssh.MarshalAuthorizedKey(hostKey.PublicKey())), privateKey)
		w.endpoint.Dial = func(context.Context, string, string) (net.Conn, error) {
			up, down := newPipe(), newPipe()
			w.fromPeer = down
			w.running.Go(func() { w.server(memoryConn{in: up, out: down}) })
			return memoryConn{in: down, out: up}, nil
		}
		test(t, w)
		w.running.Wait()
	})
}

// config returns the configuration of a server that accepts every login.
func (w *env) config() *ssh.ServerConfig {
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, nil
	}}
	config.AddHostKey(w.hostKey)
	return config
}

// handshake is an honest server up to the session channels, which serve gets.
func (w *env) handshake(config *ssh.ServerConfig, serve func(*ssh.ServerConn, <-chan ssh.NewChannel)) hostile {
	return func(conn net.Conn) {
		server, channels, requests, err := ssh.NewServerConn(conn, config)
		if err != nil {
			_ = conn.Close()
			return
		}
		go ssh.DiscardRequests(requests)
		serve(server, channels)
		_ = server.Wait()
	}
}

// acceptAll accepts session channels and passes their requests on.
func acceptAll(channels <-chan ssh.NewChannel, serve func(ssh.Channel, <-chan *ssh.Request)) {
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err == nil {
			go serve(channel, requests)
		}
	}
}

func ignore(_ ssh.Channel, requests <-chan *ssh.Request) {
	for range requests {
	}
}

func drain(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

func (w *env) dial(t *testing.T) (*conn, time.Duration, error) {
	t.Helper()
	begin := time.Now()
	dialed, err := dialWith(t.Context(), Options{}, w.endpoint)
	took := time.Since(begin)
	if err != nil {
		return nil, took, err
	}
	return dialed.(*conn), took, nil
}

func TestAStallAtConnectIsNamedByItsStageAfterItsDeadline(t *testing.T) {
	stalls := map[string]struct {
		stage  driver.Stage
		server func(*env) hostile
	}{
		"silence instead of a greeting": {driver.StageBanner, func(*env) hostile { return drain }},
		"a greeting that drips": {driver.StageBanner, func(*env) hostile {
			return func(conn net.Conn) {
				go drain(conn)
				for _, err := conn.Write([]byte("a")); err == nil; _, err = conn.Write([]byte("a")) {
					time.Sleep(time.Second) // virtual
				}
			}
		}},
		"a greeting, then silence": {driver.StageKeyExchange, func(*env) hostile {
			return func(conn net.Conn) {
				_, _ = io.WriteString(conn, "SSH-2.0-stall\r\n")
				drain(conn)
			}
		}},
		"silence instead of authentication": {driver.StageAuthentication, func(w *env) hostile {
			return func(conn net.Conn) {
				config := w.config()
				config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
					time.Sleep(time.Hour) // virtual
					return nil, errors.New("refused")
				}
				w.handshake(config, nil)(conn)
			}
		}},
		"no answer to the first session": {driver.StageSession, func(w *env) hostile {
			return w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
				for range channels {
				}
			})
		}},
	}
	for name, tc := range stalls {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = tc.server(w)
				_, took, err := w.dial(t)
				wantError(t, err, driver.Timeout, tc.stage)
				if took != 10*time.Second {
					t.Errorf("took %s, want 10s", took)
				}
			})
		})
	}
}

func TestAStallAtStartIsUnknownAndEndsTheConnection(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			acceptAll(channels, ignore)
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = run(conn, "true")
		if got := wantError(t, err, driver.Timeout, driver.StageStart); !got.Started {
			t.Error("the command counts as not started")
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("took %s, want 10s", took)
		}
		<-conn.Context().Done()
	})
}

func TestACallerWhoGivesUpEndsTheDial(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		w.server = drain
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := dialWith(ctx, Options{}, w.endpoint)
		wantError(t, err, driver.Timeout, driver.StageBanner)
		if took := time.Since(begin); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took %s, error %v", took, err)
		}
	})
}

func TestEndlessGreetingsAreRefused(t *testing.T) {
	lines := map[string]string{"lines": "welcome\r\n", "one line": strings.Repeat("welcome ", 100)}
	for name, text := range lines {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = func(conn net.Conn) {
					go drain(conn)
					for _, err := io.WriteString(conn, text); err == nil; _, err = io.WriteString(conn, text) {
					}
				}
				_, _, err := w.dial(t)
				refused := wantError(t, err, driver.ProtocolError, driver.StageBanner)
				if w.fromPeer.read > maxGreeting+1 {
					t.Errorf("%d bytes were read, want at most 64 KiB", w.fromPeer.read)
				}
				if len(refused.Message) > 512 {
					t.Errorf("the message has %d bytes", len(refused.Message))
				}
			})
		})
	}
}

func TestEndlessAuthenticationBannersAreRefused(t *testing.T) {
	for name, size := range map[string]int{"100 KiB": 100 << 10, "10 MiB": 10 << 20} {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				config := w.config()
				config.BannerCallback = func(ssh.ConnMetadata) string { return strings.Repeat("x", size) }
				w.server = w.handshake(config, nil)
				_, _, err := w.dial(t)
				wantError(t, err, driver.ProtocolError, driver.StageAuthentication)
			})
		})
	}
}

func TestAServerThatThrottlesIsRecognized(t *testing.T) {
	for said, pause := range map[string]time.Duration{
		"Not allowed at this time\r\n": time.Minute,
		"Exceeded MaxStartups\r\n":     2 * time.Second,
	} {
		t.Run(said, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = func(conn net.Conn) {
					_, _ = io.WriteString(conn, said)
					conn.(memoryConn).out.Close()
				}
				_, _, err := w.dial(t)
				if got := wantError(t, err, driver.ThrottledByServer, driver.StageBanner); got.RetryAfter != pause {
					t.Errorf("retry after %s, want %s", got.RetryAfter, pause)
				}
			})
		})
	}
}

func TestAServerThatCutsAuthenticationHasNotRefusedIt(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		w.server = func(conn net.Conn) {
			config := w.config()
			config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
				return nil, conn.Close()
			}
			w.handshake(config, nil)(conn)
		}
		_, _, err := w.dial(t)
		wantError(t, err, driver.Unreachable, driver.StageAuthentication)
	})
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestAKeepaliveThatIsMissedEndsTheConnection(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		silent := make(chan struct{})
		w.server = func(conn net.Conn) {
			server, channels, requests, err := ssh.NewServerConn(conn, w.config())
			if err != nil {
				return
			}
			go acceptAll(channels, ignore)
			go func() {
				<-silent // requests pile up unanswered
				ssh.DiscardRequests(requests)
			}()
			_ = server.Wait()
		}
		begin := time.Now()
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		<-conn.Context().Done()
		wantError(t, context.Cause(conn.Context()), driver.Timeout, driver.StageKeepalive)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("noticed after %s, want the interval and the timeout: 10s", took)
		}
		close(silent)
	})
}

func TestKeepalivesGoOnForeverAndMeasureTheRoundTrip(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		answered := 0
		w.server = func(conn net.Conn) {
			server, channels, requests, err := ssh.NewServerConn(conn, w.config())
			if err != nil {
				return
			}
			go acceptAll(channels, ignore)
			for request := range requests {
				answered++
				time.Sleep(time.Millisecond) // virtual
				_ = request.Reply(false, nil)
			}
			_ = server.Wait()
		}
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // virtual
		if conn.Context().Err() != nil || conn.Info().RoundTrip != time.Millisecond {
			t.Errorf("cause %v, round trip %s", context.Cause(conn.Context()), conn.Info().RoundTrip)
		}
		_ = conn.Close()
		synctest.Wait()
		if answered < 700 || answered > 720 {
			t.Errorf("%d keepalives in an hour, want one in 5 seconds", answered)
		}
	})
}

func TestASpareSessionAnswersTheServersKeepalives(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		answers := make(chan error, 1)
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
				_, err := channel.SendRequest("keepalive@openssh.com", true, nil)
				answers <- err
				ignore(channel, requests)
			})
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-answers; err != nil {
			t.Errorf("no answer: %v", err)
		}
		_ = conn.Close()
	})
}

func TestASpareSessionThatTheServerClosedIsNotUsed(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		sessions := 0
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			for offered := range channels {
				sessions++
				channel, requests, _ := offered.Accept()
				if sessions == 1 {
					_ = channel.Close()
				}
				go succeed(channel, requests)
			}
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := run(conn, "true"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
}

// succeed ends every command with exit code 0, before it answers the start, as some
// servers do.
func succeed(channel ssh.Channel, requests <-chan *ssh.Request) {
	for range requests {
		_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
		_ = channel.Close()
	}
}

// No Windows server can run here. Its shell, cmd, would execute what follows an &.
func TestWordsThatAWindowsShellMayExecuteAreNotStarted(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		config := w.config()
		config.ServerVersion = "SSH-2.0-OpenSSH_for_Windows_9.5"
		w.server = w.handshake(config, func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
				for request := range requests {
					_ = request.Reply(true, nil)
					_, _ = channel.SendRequest("exit-status", false, make([]byte, 4))
					_ = channel.Close()
				}
			})
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"a&calc", "%PATH%", "a\nb", `a"b`} {
			_, err := conn.Exec(t.Context(), driver.Command{Argv: []string{"echo", word}}, driver.Streams{})
			if refused := wantError(t, err, driver.ProtocolError, driver.StageStart); refused.Started {
				t.Errorf("%q counts as started", word)
			}
		}
		for _, command := range []driver.Command{{Argv: []string{"echo", "plain"}}, {Shell: "echo a & echo b"}} {
			if _, err := conn.Exec(t.Context(), command, driver.Streams{}); err != nil {
				t.Errorf("%+v: %v", command, err)
			}
		}
		_ = conn.Close()
	})
}

func TestACommandWhoseSessionWasClosedBeforeItWasSentTriesAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		closes int
		want   driver.Outcome
	}{
		"as often as allowed": {maxStarts - 1, driver.Completed},
		"not for ever":        {1000, driver.NotStarted},
	} {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				var left atomic.Int64
				left.Store(int64(tc.closes))
				w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
					acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
						for request := range requests {
							if request.Type == "pty-req" && left.Add(-1) >= 0 {
								_ = channel.Close()
								return
							}
							_ = request.Reply(true, nil)
							if request.Type == "exec" {
								_, _ = channel.SendRequest("exit-status", false, make([]byte, 4))
								_ = channel.Close()
							}
						}
					})
				})
				conn, _, err := w.dial(t)
				if err != nil {
					t.Fatal(err)
				}
				_, err = conn.Exec(t.Context(), driver.Command{Shell: "true", TTY: &driver.TTY{}}, driver.Streams{})
				if got := driver.OutcomeOf(err); got != tc.want {
					t.Errorf("outcome %s (%v), want %s", got, err, tc.want)
				}
				if asked := tc.closes - int(left.Load()); tc.want == driver.NotStarted && asked != maxStarts {
					t.Errorf("%d sessions were tried, want %d", asked, maxStarts)
				}
				_ = conn.Close()
			})
		})
	}
}
