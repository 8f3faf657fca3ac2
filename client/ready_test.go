package client

import (
	"errors"
	"net/http"
	"testing"
)

// refusing counts connections, and refuses commands.
func refusing(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, false, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusForbidden, failure(http.StatusForbidden, "Forbidden", "no"))
	})
}

func TestTheNextStreamUsesTheConnectionThatWasOpenedAhead(t *testing.T) {
	w := refusing(t)
	c := w.client(t)
	if err := c.Connect(t.Context()); err != nil || w.requests.Load() != 0 {
		t.Fatalf("%v, after %d requests", err, w.requests.Load())
	}
	for _, connections := range []int64{1, 2} {
		_, err := c.Pool("shop", "web").Stream(t.Context(), Command{Argv: []string{"true"}}, Streams{})
		if !errors.Is(err, ErrNotStarted) || w.connections.Load() != connections {
			t.Errorf("%v, over %d connections, want %d", err, w.connections.Load(), connections)
		}
	}
}

func TestAConnectionThatWasOpenedAheadAndIsNotUsedIsClosed(t *testing.T) {
	w := refusing(t)
	c := w.client(t)
	for range 2 {
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.upgrader.ready.drop(c.upgrader.ready.conn) // as after readyFor
	if conn := c.upgrader.ready.take(); conn != nil {
		t.Error("there is one left")
	}
	// That both are closed shows at the end of the test, where no goroutine of the server is left.
	if _, err := c.Pool("shop", "web").Stream(t.Context(), Command{Argv: []string{"true"}}, Streams{}); !errors.Is(err, ErrNotStarted) {
		t.Error(err)
	}
}

func TestAConnectionIsOpenedAheadOnlyToAServerThatIsVerified(t *testing.T) {
	w := refusing(t)
	config := w.config()
	config.Insecure = false
	if err := newClient(t, config).Connect(t.Context()); err == nil {
		t.Error("a server of an unknown authority passes")
	}
	if err := newClient(t, configFor("http://"+w.Listener.Addr().String())).Connect(t.Context()); err == nil {
		t.Error("a server without TLS passes")
	}
	t.Setenv("HTTPS_PROXY", w.URL)
	if err := newClient(t, configFor("https://connpool.example")).Connect(t.Context()); err == nil {
		t.Error("a proxy passes")
	}
}
