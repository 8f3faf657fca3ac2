package ssh

import (
	"runtime"
	"strings"
	"sync"
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

// untilQuiet waits until the only connection has no goroutine but the library's reader,
// which passes through its transport.
func untilQuiet(t *testing.T) {
	t.Helper()
	eventually(t, "the connection has no goroutine of its own", func() bool { return goroutines() == 1 })
}

func TestAnIdleConnectionCostsNoGoroutine(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	eventually(t, "the connections of other tests have ended", func() bool { return goroutines() == 0 })
	conn := mustDial(t, Options{}, endpoint)
	untilQuiet(t)
	mustRun(t, conn)
	untilQuiet(t)
	const longer = "sleep 0.5; exit 7" // than the rest after which the attendant leaves
	for range 2 {
		status, err := conn.Exec(t.Context(), driver.Command{Shell: longer}, driver.Streams{})
		if status.Code != 7 || err != nil {
			t.Errorf("exit code %d, error %v, want 7", status.Code, err)
		}
	}
}

func TestTheEndOfAQuietConnectionIsNoticed(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	eventually(t, "the connections of other tests have ended", func() bool { return goroutines() == 0 })
	conn := mustDial(t, Options{}, endpoint)
	untilQuiet(t)
	server.KillConnections()
	wantDeath(t, conn, driver.Unreachable, driver.StageRun)
}

// The attendant of a connection leaves just when commands come.
func TestCommandsAtTheEndOfTheRestAreAttendedTo(t *testing.T) {
	_, endpoint := startEmbedded(t, sshserver.Options{})
	conn := mustDial(t, Options{}, endpoint)
	for i := range 20 {
		time.Sleep(rest + time.Duration(i-10)*100*time.Microsecond)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := conn.Exec(t.Context(), driver.Command{Shell: "true"}, driver.Streams{}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
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
