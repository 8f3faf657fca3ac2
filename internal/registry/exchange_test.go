package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// versions are those of HTTP in which clients come.
var versions = map[string]func(*httptest.Server){
	"HTTP/1.1": func(server *httptest.Server) {
		server.Client().Transport.(*http.Transport).ForceAttemptHTTP2 = false
		server.Client().Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
	},
	"HTTP/2": func(*httptest.Server) {},
}

// A watch sends an event now and then, and each arrives before the next is sent.
func TestEventsArriveOneByOne(t *testing.T) {
	for version, choose := range versions {
		t.Run(version, func(t *testing.T) {
			next := make(chan struct{})
			proxied(t, func(w http.ResponseWriter, _ *http.Request) {
				for n := range 3 {
					_, _ = fmt.Fprintf(w, "event %d\n", n)
					_ = http.NewResponseController(w).Flush()
					<-next
				}
			}, func(w *world, server *httptest.Server) {
				choose(server)
				response := open(t, server, http.MethodGet, "/watch", http.NoBody)
				defer response.Body.Close()
				if response.Proto[:6] != version[:6] {
					t.Errorf("it is %s", response.Proto)
				}
				events := bufio.NewReader(response.Body)
				for n := range 3 {
					if got, err := events.ReadString('\n'); got != fmt.Sprintf("event %d\n", n) {
						t.Errorf("event %q, %v", got, err)
					}
					if leases := w.set.Connections("")[0].Leases; leases != 1 {
						t.Errorf("%d leases are out", leases)
					}
					next <- struct{}{}
				}
				if rest, err := io.ReadAll(events); len(rest) > 0 || err != nil {
					t.Errorf("%q, %v", rest, err)
				}
			})
		})
	}
}

// The answer begins before the request has ended, as when an engine reports the
// progress of a build, and nothing is gathered on the way.
func TestARequestAndItsAnswerFlowAtTheSameTime(t *testing.T) {
	for version, choose := range versions {
		t.Run(version, func(t *testing.T) {
			proxied(t, func(w http.ResponseWriter, r *http.Request) {
				control := http.NewResponseController(w)
				_ = control.EnableFullDuplex()
				lines := bufio.NewReader(r.Body)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = io.WriteString(w, "got "+line)
					_ = control.Flush()
				}
			}, func(w *world, server *httptest.Server) {
				choose(server)
				body, context := io.Pipe()
				go func() { _, _ = io.WriteString(context, "part 0\n") }()
				response := open(t, server, http.MethodPost, "/build", body)
				defer response.Body.Close()
				progress := bufio.NewReader(response.Body)
				for n := range 3 {
					if got, err := progress.ReadString('\n'); got != fmt.Sprintf("got part %d\n", n) {
						t.Fatalf("progress %q, %v", got, err)
					}
					_, _ = fmt.Fprintf(context, "part %d\n", n+1)
				}
				_ = context.Close()
				_, _ = io.Copy(io.Discard, progress)
				if err := w.registry.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := `"bytesIn"=28 "bytesOut"=44`; !strings.Contains(w.audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, w.audit())
				}
			})
		})
	}
}

func TestAnAnswerThatIsCutLooksCut(t *testing.T) {
	for version, choose := range versions {
		for name, promise := range map[string]string{"of a known length": "Content-Length: 100", "of any length": "Transfer-Encoding: chunked"} {
			t.Run(version+" "+name, func(t *testing.T) {
				proxied(t, func(w http.ResponseWriter, _ *http.Request) {
					conn, _, _ := http.NewResponseController(w).Hijack()
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+promise+"\r\n\r\n5\r\nbegin\r\n")
					_ = conn.Close()
				}, func(w *world, server *httptest.Server) {
					choose(server)
					response := open(t, server, http.MethodGet, "/x", http.NoBody)
					defer response.Body.Close()
					if body, err := io.ReadAll(response.Body); err == nil {
						t.Errorf("%q looks whole", body)
					}
					if err := w.registry.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					if want := `"outcome"="Unknown" "reason"="Unreachable"`; !strings.Contains(w.audit(), want) {
						t.Errorf("audit does not contain %s: %s", want, w.audit())
					}
				})
			})
		}
	}
}

// dripping is an API that sends a byte now and then until its request ends, which
// it then says.
func dripping(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- r.Context().Err()
	}
}

func TestARequestEndsWithItsClient(t *testing.T) {
	for version, choose := range versions {
		t.Run(version, func(t *testing.T) {
			ended := make(chan error, 1)
			proxied(t, dripping(ended), func(w *world, server *httptest.Server) {
				choose(server)
				ctx, leave := context.WithCancel(t.Context())
				response := open(t, server, http.MethodGet, "/logs", http.NoBody, func(r *http.Request) { *r = *r.WithContext(ctx) })
				leave()
				_ = response.Body.Close()
				<-ended
				if err := w.registry.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := `"outcome"="Completed" "reason"="ClientGone"`; !strings.Contains(w.audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, w.audit())
				}
			})
		})
	}
}

func TestARequestEndsBeforeItsAnswerWithItsClient(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	proxied(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	}, func(_ *world, server *httptest.Server) {
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-arrived; leave() }()
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+proxyPath+"/wait", http.NoBody)
		if response, err := server.Client().Transport.RoundTrip(request); err == nil { //nolint:bodyclose // there is none
			t.Errorf("answered %d", response.StatusCode)
		}
		<-ended
	})
}

func TestAnAnswerIsCutWithItsConnection(t *testing.T) {
	ended := make(chan error, 1)
	proxied(t, dripping(ended), func(w *world, server *httptest.Server) {
		response := open(t, server, http.MethodGet, "/logs", http.NoBody)
		defer response.Body.Close()
		w.fake.Live()[0].Kill(nil)
		<-ended
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("%q looks whole", body)
		}
		if err := w.registry.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := `"outcome"="Unknown" "reason"="Unreachable"`; !strings.Contains(w.audit(), want) {
			t.Errorf("audit does not contain %s: %s", want, w.audit())
		}
	})
}

// pipeline serves the world over pipes, in virtual time.
func pipeline(w *world) (dial func() net.Conn, stop func()) {
	listener := pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: w}
	go func() { _ = server.Serve(listener) }()
	return func() net.Conn {
		client, _ := listener.dial(w.Context(), "", "")
		return client
	}, func() { _ = server.Close() }
}

// trickle is a body that never ends, and fails with its request.
type trickle struct {
	ctx   context.Context
	every time.Duration
}

func (b trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(b.every):
		p[0] = 'x'
		return 1, nil
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

// trickling plays an API with such answers.
type trickling time.Duration

func (every trickling) RoundTrip(r *http.Request) (*http.Response, error) {
	body := io.NopCloser(trickle{r.Context(), time.Duration(every)})
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: body, ContentLength: -1, Request: r,
	}, nil
}

func TestARevokedPermissionCutsAnAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		every time.Duration
		reads bool
		grace time.Duration
	}{
		"that drips":                      {time.Second, true, 0},
		"that is silent":                  {time.Hour, true, 0},
		"that is not read":                {time.Second, false, unreadGrace},
		"that comes fast and is not read": {time.Microsecond, false, unreadGrace},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.engine(trickling(test.every))
				dial, stop := pipeline(w)
				defer stop()
				client := dial()
				defer client.Close()
				_, _ = fmt.Fprintf(client, "GET %s/logs HTTP/1.1\r\nHost: x\r\n\r\n", proxyPath)
				response, err := http.ReadResponse(bufio.NewReader(client), nil) //nolint:bodyclose // its end is the test
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				ended := make(chan error, 1)
				if test.reads {
					go func() {
						_, err := io.Copy(io.Discard, response.Body)
						ended <- err
					}()
				}
				time.Sleep(20 * time.Minute)
				if w.registry.uses.total != 1 {
					t.Fatal("it has ended before")
				}
				w.judge.decide(authorizer.DecisionNoOpinion, nil)
				revoked := time.Now()
				if err := w.registry.Wait(w.Context()); err != nil {
					t.Fatal(err)
				}
				if after := time.Since(revoked); after > recheckPeriod+test.grace {
					t.Errorf("it ended %v after the permission was revoked", after)
				}
				if test.reads && (<-ended) == nil {
					t.Error("the answer looks whole")
				}
				if want := `"outcome"="Unknown" "reason"="PermissionRevoked"`; !strings.Contains(w.audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, w.audit())
				}
			})
		})
	}
}

func TestWhatIsLeftIsCutWhenTheOperatorStops(t *testing.T) {
	inWorld(t, func(w *world) {
		w.engine(trickling(time.Second))
		dial, stop := pipeline(w)
		defer stop()
		client := dial()
		defer client.Close()
		_, _ = fmt.Fprintf(client, "GET %s/logs HTTP/1.1\r\nHost: x\r\n\r\n", proxyPath)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if err := w.registry.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if want := `"reason"="ShuttingDown"`; !strings.Contains(w.audit(), want) {
			t.Errorf("audit does not contain %s: %s", want, w.audit())
		}
	})
}

// A deadline that was set for a client which did not read is not left to its next
// request on the same connection.
func TestADeadlineIsTakenBack(t *testing.T) {
	inWorld(t, func(w *world) {
		recorder := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := context.WithCancel(w.Context())
		undo := hurryWith(ctx, recorder)
		cancel()
		synctest.Wait()
		undo()
		if want := []time.Time{time.Now().Add(unreadGrace), {}}; len(recorder.set) != 2 || !recorder.set[0].Equal(want[0]) || !recorder.set[1].IsZero() {
			t.Errorf("deadlines are %v", recorder.set)
		}
	})
}

type deadlines struct {
	*httptest.ResponseRecorder

	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// A connection on which a request was not answered is given to others only once it
// has proved that it serves.
func TestAConnectionThatMayBeToBlameIsProved(t *testing.T) {
	for name, test := range map[string]struct {
		err    *driver.Error
		proved bool
	}{
		"the connection ended":    {&driver.Error{Reason: driver.Unreachable, Started: true, Message: "reset"}, true},
		"an answer, whatever one": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.engine(answering{test.err})
				time.Sleep(time.Minute)
				probed := false
				w.fake.OnProbe(func(context.Context, *drivertest.FakeConn) error {
					probed = true
					return errors.New("nobody is there")
				})
				first := w.fake.Live()[0]
				w.send(httptest.NewRequestWithContext(w.Context(), http.MethodGet, proxyPath+"/x", http.NoBody))
				synctest.Wait()
				if gone := first.Context().Err() != nil; probed != test.proved || gone != test.proved {
					t.Errorf("probed: %t, gone: %t", probed, gone)
				}
			})
		})
	}
}

// answering plays an API that answers with a 500, or not at all.
type answering struct{ err *driver.Error }

func (a answering) RoundTrip(request *http.Request) (*http.Response, error) {
	if a.err != nil {
		return nil, a.err
	}
	return inMemory(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"code": 500}`, http.StatusInternalServerError)
	}).RoundTrip(request)
}
