package proxy

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
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// versions are the versions of HTTP that clients speak.
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
			}, func(f *fixture, server *httptest.Server) {
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
					if leases := f.Set.Connections("")[0].Leases; leases != 1 {
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
// progress of a build, and the proxy buffers neither.
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
			}, func(f *fixture, server *httptest.Server) {
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
				if err := f.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := `"bytesIn"=28 "bytesOut"=44`; !strings.Contains(f.Audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, f.Audit())
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
				}, func(f *fixture, server *httptest.Server) {
					choose(server)
					response := open(t, server, http.MethodGet, "/x", http.NoBody)
					defer response.Body.Close()
					if body, err := io.ReadAll(response.Body); err == nil {
						t.Errorf("%q looks whole", body)
					}
					if err := f.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					if want := `"outcome"="Unknown" "reason"="Unreachable"`; !strings.Contains(f.Audit(), want) {
						t.Errorf("audit does not contain %s: %s", want, f.Audit())
					}
				})
			})
		}
	}
}

// dripping plays an API that sends a byte and waits until its request ends, and then
// says why it ended.
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
			proxied(t, dripping(ended), func(f *fixture, server *httptest.Server) {
				choose(server)
				ctx, leave := context.WithCancel(t.Context())
				response := open(t, server, http.MethodGet, "/logs", http.NoBody, func(r *http.Request) { *r = *r.WithContext(ctx) })
				leave()
				_ = response.Body.Close()
				<-ended
				if err := f.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if want := `"outcome"="Completed" "reason"="ClientGone"`; !strings.Contains(f.Audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, f.Audit())
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
	}, func(_ *fixture, server *httptest.Server) {
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-arrived; leave() }()
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+registrytest.ProxyPath+"/wait", http.NoBody)
		if response, err := server.Client().Transport.RoundTrip(request); err == nil { //nolint:bodyclose // there is none
			t.Errorf("answered %d", response.StatusCode)
		}
		<-ended
	})
}

func TestAnAnswerIsCutWithItsConnection(t *testing.T) {
	ended := make(chan error, 1)
	proxied(t, dripping(ended), func(f *fixture, server *httptest.Server) {
		response := open(t, server, http.MethodGet, "/logs", http.NoBody)
		defer response.Body.Close()
		f.Fake.Live()[0].Kill(nil)
		<-ended
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("%q looks whole", body)
		}
		if err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := `"outcome"="Unknown" "reason"="Unreachable"`; !strings.Contains(f.Audit(), want) {
			t.Errorf("audit does not contain %s: %s", want, f.Audit())
		}
	})
}

// pipeline serves the fixture over pipes, in virtual time.
func pipeline(f *fixture) (dial func() net.Conn, stop func()) {
	listener, stop := registrytest.Serve(f)
	return func() net.Conn {
		client, _ := listener.Dial(f.Context(), "", "")
		return client
	}, stop
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

// trickling plays an API whose answers are such bodies.
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
			inFixture(t, func(f *fixture) {
				f.Engine(trickling(test.every))
				dial, stop := pipeline(f)
				defer stop()
				client := dial()
				defer client.Close()
				_, _ = fmt.Fprintf(client, "GET %s/logs HTTP/1.1\r\nHost: x\r\n\r\n", registrytest.ProxyPath)
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
				if f.Idle() {
					t.Fatal("it has ended before")
				}
				f.Authorizer.Decide(authorizer.DecisionNoOpinion, nil)
				revoked := time.Now()
				if err := f.Wait(f.Context()); err != nil {
					t.Fatal(err)
				}
				if after := time.Since(revoked); after > use.RecheckPeriod+test.grace {
					t.Errorf("it ended %v after the permission was revoked", after)
				}
				if test.reads && (<-ended) == nil {
					t.Error("the answer looks whole")
				}
				if want := `"outcome"="Unknown" "reason"="PermissionRevoked"`; !strings.Contains(f.Audit(), want) {
					t.Errorf("audit does not contain %s: %s", want, f.Audit())
				}
			})
		})
	}
}

func TestWhatIsLeftIsCutWhenTheOperatorStops(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Engine(trickling(time.Second))
		dial, stop := pipeline(f)
		defer stop()
		client := dial()
		defer client.Close()
		_, _ = fmt.Fprintf(client, "GET %s/logs HTTP/1.1\r\nHost: x\r\n\r\n", registrytest.ProxyPath)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		defer cancel()
		if err := f.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if want := `"reason"="ShuttingDown"`; !strings.Contains(f.Audit(), want) {
			t.Errorf("audit does not contain %s: %s", want, f.Audit())
		}
	})
}

// A deadline for a client that does not read does not apply to its next request on the
// same connection.
func TestADeadlineIsTakenBack(t *testing.T) {
	inFixture(t, func(f *fixture) {
		recorder := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := context.WithCancel(f.Context())
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

// A connection on which a request was not answered gets other leases only after it has
// proved that it serves.
func TestAConnectionThatMayBeToBlameIsProved(t *testing.T) {
	for name, test := range map[string]struct {
		err    *driver.Error
		proved bool
	}{
		"the connection ended":    {&driver.Error{Reason: driver.Unreachable, Started: true, Message: "reset"}, true},
		"an answer, whatever one": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Engine(answering{test.err})
				time.Sleep(time.Minute)
				probed := false
				f.Fake.OnProbe(func(context.Context, *drivertest.FakeConn) error {
					probed = true
					return errors.New("no answer")
				})
				first := f.Fake.Live()[0]
				f.Send(httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody))
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
	return registrytest.InMemory(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"code": 500}`, http.StatusInternalServerError)
	}).RoundTrip(request)
}
