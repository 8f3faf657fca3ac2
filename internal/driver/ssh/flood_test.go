package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

func TestAFloodEndsTheConnectionWithinBoundedMemory(t *testing.T) {
	const flood = 10_000
	floods := map[string]func(*ssh.ServerConn){
		"channel opens": func(server *ssh.ServerConn) {
			for range flood {
				go server.OpenChannel("x11", nil) //nolint:errcheck // refused
			}
		},
		"global requests": func(server *ssh.ServerConn) {
			for range flood {
				if _, _, err := server.SendRequest("anything", false, nil); err != nil {
					return
				}
			}
		},
		"key exchanges": func(server *ssh.ServerConn) {
			// The server's threshold makes it exchange keys every few messages.
			for range flood {
				if _, _, err := server.SendRequest("keepalive@openssh.com", true, bytes.Repeat([]byte("x"), 300)); err != nil {
					return
				}
			}
		},
	}
	for name, attack := range floods {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				config := w.config()
				config.RekeyThreshold = 256
				if name != "key exchanges" {
					config.RekeyThreshold = 0
				}
				w.server = w.handshake(config, func(server *ssh.ServerConn, channels <-chan ssh.NewChannel) {
					go acceptAll(channels, ignore)
					attack(server)
				})
				before := heap()
				conn, _, err := w.dial(t)
				if err != nil { // the flood was faster than the first session
					wantError(t, err, driver.ProtocolError, driver.StageSession)
					return
				}
				<-conn.Context().Done()
				wantError(t, context.Cause(conn.Context()), driver.ProtocolError, driver.StageRun)
				if grown := int64(heap()) - int64(before); grown > 32<<20 {
					t.Errorf("the heap grew by %d MiB", grown>>20)
				}
			})
		})
	}
}

// The library holds what is not read, at up to 50 bytes of memory for each of data.
func TestAFloodOnASessionEndsTheConnectionWithinBoundedMemory(t *testing.T) {
	flood := func(send func() error) {
		for range 4 << 20 {
			if send() != nil {
				return
			}
		}
	}
	oneByte := func(w io.Writer) func() error {
		return func() error {
			_, err := w.Write([]byte("x"))
			return err
		}
	}
	floods := map[string]func(channel ssh.Channel, started bool){
		"data before a command": func(channel ssh.Channel, started bool) {
			if !started {
				flood(oneByte(channel))
			}
		},
		"errors before a command": func(channel ssh.Channel, started bool) {
			if !started {
				flood(oneByte(channel.Stderr()))
			}
		},
		"data that the caller of a command does not take": func(channel ssh.Channel, started bool) {
			if started {
				flood(oneByte(channel))
			}
		},
		"exit codes without end": func(channel ssh.Channel, started bool) {
			if started {
				flood(func() error {
					_, err := channel.SendRequest("exit-status", false, make([]byte, 4))
					return err
				})
			}
		},
	}
	for name, attack := range floods {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
					acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
						go attack(channel, false)
						for request := range requests {
							_ = request.Reply(true, nil)
							go attack(channel, true)
						}
					})
				})
				before := heap()
				conn, _, err := w.dial(t)
				if err != nil {
					t.Fatal(err)
				}
				stuck := &stuckWriter{reached: make(chan struct{}), release: make(chan struct{})}
				go conn.Exec(context.Background(), driver.Command{Shell: "x"}, driver.Streams{Stdout: stuck, Stderr: stuck}) //nolint:errcheck // what ends it is looked at below
				select {
				case <-conn.Context().Done():
				case <-time.After(time.Minute): // virtual
					t.Error("the connection goes on")
				}
				runtime.GC()
				grown := int64(heap()) - int64(before)
				close(stuck.release)
				_ = conn.Close()
				wantError(t, context.Cause(conn.Context()), driver.ProtocolError, driver.StageRun)
				if t.Logf("the heap grew by %d MiB", grown>>20); grown > 32<<20 {
					t.Error("this is too much")
				}
			})
		})
	}
}

func TestTheLongWordsOfAServerAreNotKept(t *testing.T) {
	long := strings.Repeat("long ", 40<<10)
	inEnv(t, func(t *testing.T, w *env) {
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			for offered := range channels {
				_ = offered.Reject(ssh.Prohibited, long)
			}
		})
		conn, _, err := w.dial(t)
		if err == nil {
			_ = conn.Close()
			t.Fatal("a server that refuses every session has been dialed")
		}
		for ; err != nil; err = errors.Unwrap(err) {
			if len(err.Error()) > 1024 {
				t.Errorf("an error holds %d bytes", len(err.Error()))
			}
		}
	})
}

// A stream that is closed may be held for long by a goroutine that waits for its client.
func TestAClosedStreamHoldsNothingThatWasNotRead(t *testing.T) {
	const streams, window = 8, 2 << 20
	inEnv(t, func(t *testing.T, w *env) {
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
				go ignore(channel, requests)
				_, _ = channel.Write(make([]byte, 2*window))
			})
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		before := heapInUse()
		var open []net.Conn
		for range streams {
			stream, err := conn.Forward(t.Context(), "tcp", "host:80")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, stream)
		}
		synctest.Wait()
		if held := heapInUse() - before; held < streams*window {
			t.Fatalf("the unread data takes %d KiB, so this test finds nothing out", held>>10)
		}
		for _, stream := range open {
			_ = stream.Close()
		}
		synctest.Wait()
		if held := heapInUse() - before; held > streams*window/2 { // pipes hold some of it
			t.Errorf("closed streams hold %d KiB", held>>10)
		}
		runtime.KeepAlive(open)
		_ = conn.Close()
	})
}

// The test cannot end while one of its goroutines waits.
func TestAStreamThatIsClosedWhileItIsReadLeavesNothingWaiting(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		answer := make(chan struct{})
		w.server = w.handshake(w.config(), func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
			acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
				go ssh.DiscardRequests(requests)
				<-answer
				_ = channel.Close()
			})
		})
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := conn.Forward(t.Context(), "tcp", "host:80")
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := stream.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		_ = stream.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read ends with %v, want net.ErrClosed", err)
		}
		synctest.Wait()
		close(answer)
		synctest.Wait()
		_ = conn.Close()
	})
}

func heapInUse() int64 {
	runtime.GC()
	return int64(heap())
}
