package ssh

import (
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/sshserver"
)

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not so: %s", what)
		}
	}
}

// goroutines counts those that run a method of this package.
func goroutines() int {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	count := 0
	for one := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(one, "internal/driver/ssh.(*") {
			count++
		}
	}
	return count
}

func TestAnIdleConnectionCostsOneGoroutine(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	eventually(t, "the connections of other tests have ended", func() bool { return goroutines() == 0 })
	conn := mustDial(t, Options{}, endpoint)
	for range 3 {
		mustRun(t, conn)
		// The library's reader passes through the transport, which counts too.
		eventually(t, "one goroutine beside the library's", func() bool { return goroutines() == 2 })
	}
}

// OpenSSH asks on a channel whether a client lives, also on one that has no command yet.
func TestTheSpareOfAnIdleConnectionAnswersTheServer(t *testing.T) {
	_, endpoint := startOpenSSH(t, "ClientAliveInterval 1", "ClientAliveCountMax 1")
	conn := mustDial(t, Options{}, endpoint)
	mustRun(t, conn)
	select {
	case <-conn.Context().Done():
		t.Fatal("the server gave up on the connection")
	case <-time.After(3 * time.Second):
	}
	mustRun(t, conn)
}

func TestAConnectionForgetsItsDial(t *testing.T) {
	_, endpoint := startEmbedded(t, sshserver.Options{})
	conn, traced := dialTraced(t, endpoint)
	eventually(t, "the trace of the dial is garbage", func() bool {
		runtime.GC()
		return traced.Value() == nil
	})
	runtime.KeepAlive(conn)
}

// dialTraced makes a connection, and returns what only its dial leads to.
func dialTraced(t *testing.T, endpoint driver.Endpoint) (*conn, weak.Pointer[strings.Builder]) {
	t.Helper()
	told := new(strings.Builder)
	endpoint.Trace = func(_ driver.Stage, found string) { told.WriteString(found) }
	return mustDial(t, Options{}, endpoint), weak.Make(told)
}
