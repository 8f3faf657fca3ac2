package poolset

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/test/openssh"
)

// forced is sshd_config that runs every command as a forced one, which sshd signals as
// little as those of root: so these tests do not depend on who runs them.
const forced = `ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"`

// stubborn is a real sshd, which does not end commands that are canceled.
type stubborn struct {
	*testing.T
	set *Set
	// hold is a file; commands run while it exists.
	hold string
}

// ensureSSH gives the set a target with the pool.
func ensureSSH(t *testing.T, set *Set, server *openssh.Server, change func(*Policy)) {
	t.Helper()
	access := Access{
		Driver: ssh.New(ssh.Options{KillGrace: 100 * time.Millisecond}),
		Endpoint: driver.Endpoint{
			Address: server.Addr, User: server.User, KnownHosts: []byte(server.KnownHosts),
			Credentials: map[string][]byte{"ssh-privatekey": server.PrivateKey},
		},
		Identity: server.Addr, Version: "v1",
	}
	if err := (&remote{T: t, set: set}).ensured(Target{Ref: ref("web"), Type: "ssh", Access: access, Pools: []Pool{pool("p", change)}}); err != nil {
		t.Fatal(err)
	}
}

func startStubborn(t *testing.T, config string, change func(*Policy)) stubborn {
	t.Helper()
	server, err := openssh.Start(t.Context(), openssh.Options{Dir: t.TempDir(), Config: []string{config, forced}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := stubborn{t, New(new(net.Dialer).DialContext, dialbudget.New(30, 3, 6)), filepath.Join(server.Dir, "hold")}
	if err := os.WriteFile(s.hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(s.hold)
		closed(s.set, time.Second)
	})
	ensureSSH(t, s.set, server, change)
	return s
}

func (s stubborn) run(ctx context.Context, line string, streams driver.Streams) error {
	_, err := execIn(ctx, s.set, request("p", "web"), driver.Command{Shell: line}, streams)
	return err
}

// cancel cancels a command that runs.
func (s stubborn) cancel() {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	line := fmt.Sprintf("echo runs; while [ -e %s ]; do sleep 0.1; done", s.hold)
	err := s.run(ctx, line, driver.Streams{Stdout: writerFunc(func([]byte) { cancel() })})
	if got := driver.OutcomeOf(err); got != driver.Unknown || driver.AsError(err).Leftover == nil {
		s.Errorf("outcome %s (%v), want %s with a leftover", got, err, driver.Unknown)
	}
}

type writerFunc func([]byte)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// wantAll runs commands at the same time, all of which must succeed.
func (s stubborn) wantAll(n int, line string) {
	s.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := s.run(s.Context(), line, driver.Streams{}); err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
	observed, _ := s.set.Observe("web-uid")
	if learned := observed.Pools[0].Cap; learned != 0 {
		s.Errorf("a limit of %d was learned because of leftovers", learned)
	}
}

func TestCanceledCommandsThatDoNotEndTakeNothingFromLaterOnes(t *testing.T) {
	t.Run("two of three sessions", func(t *testing.T) {
		s := startStubborn(t, "MaxSessions 3", func(p *Policy) { p.Max, p.LeasesPerConn = 1, 2 })
		s.cancel()
		s.cancel()
		s.wantAll(1, "true")
	})
	t.Run("twelve at the same time on the only connection", func(t *testing.T) {
		s := startStubborn(t, "MaxSessions 10", func(p *Policy) { p.Max = 1 })
		var all sync.WaitGroup
		for range 12 {
			all.Go(s.cancel)
		}
		all.Wait()
		s.wantAll(20, "true")
	})
	t.Run("ten one after another on one of four connections", func(t *testing.T) {
		s := startStubborn(t, "MaxSessions 10", func(p *Policy) { p.MinWarm = 4 })
		for range 10 {
			s.cancel()
		}
		s.wantAll(32, "sleep 0.2")
	})
}

func TestAConnectionWithALeftoverIsReplaced(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnExec(func(_ context.Context, c *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			return driver.ExitStatus{}, &driver.Error{
				Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Leftover: c.Context().Done(),
			}
		})
		f.ensure(f.target("web", pool("p")))
		before := f.live(everything)[0]
		_, _ = f.exec(request("p", "web"))
		sleep(0) // the connection proves itself, and its successor is dialed
		if after := f.live(everything); len(after) != 1 || after[0] == before {
			t.Errorf("%d connections live, the old one among them: %t", len(after), len(after) > 0 && after[0] == before)
		}
	})
}

func TestAHealthCommandThatDoesNotEndKeepsItsSlot(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnExec(func(ctx context.Context, c *drivertest.FakeConn, _ driver.Command, _ driver.Streams) (driver.ExitStatus, error) {
			<-ctx.Done()
			return driver.ExitStatus{}, &driver.Error{
				Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Leftover: c.Context().Done(),
			}
		})
		f.ensure(f.target("web", pool("p", func(p *Policy) { p.ProbeCommand = []string{"true"} })))
		before := f.live(everything)[0]
		sleep(2 * time.Minute)
		for _, c := range f.live(everything) {
			if c == before {
				t.Error("the connection was not replaced")
			}
		}
	})
}
