package registry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

func TestInputOfManyCommandsIsBounded(t *testing.T) {
	r := &Registry{input: newBudget(maxBytes, maxUserBytes)}
	b := r.input
	var releases []func()
	fill := func(user string) (n int) {
		for {
			release, err := r.holdBody(user, -1)
			if err != nil {
				return n
			}
			releases = append(releases, release)
			n++
		}
	}
	if n := fill("ann"); n != maxUserBytes/maxExecBytes {
		t.Errorf("ann holds %d", n)
	}
	if _, err := r.holdBody("ann", 1); err == nil {
		t.Error("ann holds one more")
	}
	if n := fill("bob"); n != (maxBytes-maxUserBytes)/maxExecBytes {
		t.Errorf("bob holds %d", n)
	}
	if _, err := r.holdBody("cat", 1); err == nil {
		t.Error("all together hold one more")
	}
	for _, release := range releases {
		release()
	}
	if b.bytes != 0 || len(b.users) != 0 {
		t.Errorf("%d bytes of %v are left", b.bytes, b.users)
	}
}

func TestInputIsNotHeldAfterItsCommand(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		w.post(w.Context(), "web", command("true"))
		w.post(w.Context(), "web", "no object")
		if held := w.registry.input.bytes; held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}

// Many outputs together are bounded, too. The rest is dropped, and no command ends
// for it.
func TestOutputOfManyCommandsIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.web()
		release := make(chan struct{})
		const each, most = 100, 1000
		w.registry.output = newBudget(most, most/2)
		long := bytes.Repeat([]byte("x"), each)
		w.fake.OnExec(func(_ context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
			_, _ = streams.Stdout.Write(long)
			_, _ = streams.Stderr.Write(long)
			<-release
			return driver.ExitStatus{}, nil
		})
		answers := make([]<-chan reply, 0, 10)
		for n := range cap(answers) {
			answers = append(answers, w.later(w.Context(), "web", command("yes"), as([]string{"ann", "bob", "cat", "dan"}[n%4])))
		}
		synctest.Wait()
		if held := w.registry.output.bytes; held != most {
			t.Errorf("%d bytes are held, want %d", held, most)
		}
		close(release)
		whole := 0
		for _, answer := range answers {
			got := <-answer
			got.wantOutcome(w, live.OutcomeCompleted)
			kept := len(got.exec.Status.Stdout) + len(got.exec.Status.Stderr)
			if got.exec.Status.Truncated != (kept < 2*each) {
				t.Errorf("%d bytes, truncated: %t", kept, got.exec.Status.Truncated)
			}
			whole += kept
		}
		if whole != most || w.registry.output.bytes != 0 || len(w.registry.output.users) != 0 {
			t.Errorf("%d bytes came back, %d are still held", whole, w.registry.output.bytes)
		}
	})
}

func TestOutputOfOneUserIsBounded(t *testing.T) {
	r := &Registry{output: newBudget(maxBytes, maxUserBytes)}
	var kept []*capture
	long := make([]byte, live.MaxExecOutputBytes)
	for range maxUserBytes/len(long) + 1 {
		c := r.newCapture("ann")
		_, _ = c.Write(long)
		kept = append(kept, c)
	}
	if last := kept[len(kept)-1]; !last.truncated || last.kept.Len() != 0 {
		t.Error("ann holds one more")
	}
	other := r.newCapture("bob")
	if _, _ = other.Write(long); other.truncated {
		t.Error("bob may hold nothing")
	}
	for _, c := range append(kept, other) {
		c.release()
	}
	if r.output.bytes != 0 {
		t.Errorf("%d bytes are left", r.output.bytes)
	}
}

// A client that sends nothing is not waited for; one whose command lasts is.
func TestOnlyTheBodyHasADeadline(t *testing.T) {
	const body = `{"spec": {"command": ["sleep", "infinity"]}}`
	for name, test := range map[string]struct {
		sent   string
		lasts  time.Duration
		status int
	}{
		"no body":              {"", bodyTimeout, http.StatusBadRequest},
		"a command of an hour": {body, time.Hour, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.web()
				release := make(chan struct{})
				w.fake.OnExec(lasting(release))
				time.AfterFunc(time.Hour, func() { close(release) })
				listener := pipes{make(chan net.Conn), make(chan struct{})}
				server := &http.Server{Handler: w}
				go func() { _ = server.Serve(listener) }()
				defer server.Close() //nolint:errcheck // the end of the test
				client, _ := listener.dial(w.Context(), "", "")
				defer client.Close()
				began := time.Now()
				_, _ = fmt.Fprintf(client, "POST /pools/web/exec HTTP/1.1\r\nHost: pools\r\nContent-Length: %d\r\n\r\n%s", len(body), test.sent)
				response, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != test.status || time.Since(began) != test.lasts {
					t.Errorf("answered %d after %v", response.StatusCode, time.Since(began))
				}
			})
		})
	}
}
