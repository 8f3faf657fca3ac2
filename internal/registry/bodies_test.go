package registry

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestInputOfManyCommandsIsBounded(t *testing.T) {
	b := newBodies()
	var releases []func()
	fill := func(user string) (n int) {
		for {
			release, err := b.hold(user, -1)
			if err != nil {
				return n
			}
			releases = append(releases, release)
			n++
		}
	}
	if n := fill("ann"); n != maxUserBodies/maxExecBytes {
		t.Errorf("ann holds %d", n)
	}
	if _, err := b.hold("ann", 1); err == nil {
		t.Error("ann holds one more")
	}
	if n := fill("bob"); n != (maxBodies-maxUserBodies)/maxExecBytes {
		t.Errorf("bob holds %d", n)
	}
	if _, err := b.hold("cat", 1); err == nil {
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
		if held := w.registry.bodies.bytes; held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
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
