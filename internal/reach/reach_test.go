package reach

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/background"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/reach/dialing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a network with a budget of one dial, in virtual time.
type fixture struct {
	*testing.T
	fake    *drivertest.Fake
	network *Network
}

// withFixture runs a test in virtual time and closes the network.
func withFixture(t *testing.T, test func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, fake: new(drivertest.Fake)}
		work := background.New()
		f.network = New(nil, dialbudget.New(1, 1, 1), work, func(Ref) {})
		defer func() {
			work.Shut()
			work.Wait()
			f.network.Close(context.Background())
		}()
		test(f)
	})
}

func (f *fixture) access(host string, jumpHost *JumpHost) Access {
	return Access{Driver: f.fake, Endpoint: driver.Endpoint{Address: host + ":22"}, Identity: host, JumpHost: jumpHost}
}

func (f *fixture) version(host string) *Version {
	return f.network.Version(Ref{UID: host + "-uid"}, f.access(host, nil))
}

// jumpHost is a jump host that is in use and not connected yet.
func (f *fixture) jumpHost() *JumpHost {
	f.fake.OnForward(func(context.Context, *drivertest.FakeConn, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		return near, far.Close()
	})
	j := &JumpHost{Ref: Ref{UID: "jump-uid", Name: "jump"}, Access: f.access("jump", nil)}
	f.network.EnsureJumpHost(j.Ref, f.network.Version(j.Ref, j.Access))
	return j
}

func TestTheWaitForTheBudgetDoesNotCountAgainstTheBoundOfADial(t *testing.T) {
	withFixture(t, func(f *fixture) {
		const long = 10 * dialTimeout
		done, err := f.network.budget.Admit(f.Context(), dialbudget.Route{Host: "another"})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(long, func() { done(nil) })
		f.fake.OnDial(func(ctx context.Context, _ driver.Endpoint) error {
			if deadline, _ := ctx.Deadline(); time.Until(deadline) != dialTimeout {
				t.Errorf("the dial has %s, want %s", time.Until(deadline), dialTimeout)
			}
			return nil
		})
		begun := time.Now()
		conn, err := f.version("web").Dialer(Keepalive{}).Dial(f.Context(), dialing.Begin())
		if err != nil || time.Since(begun) != long {
			t.Fatalf("after %s: %v, want a connection after %s", time.Since(begun), err, long)
		}
		_ = conn.Close()
	})
}

func TestADialThatLosesItsJumpHostEachTimeEnds(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.fake.OnDial(func(context.Context, driver.Endpoint) error { return errNoRoom })
		_, err := f.version("web").Dialer(Keepalive{}).Dial(f.Context(), dialing.Begin())
		if n := len(f.fake.Dials()); !errors.Is(err, errNoRoom) || n != 1+maxRestarts {
			t.Errorf("%v after %d dials, want %v after %d", err, n, errNoRoom, 1+maxRestarts)
		}
	})
}

func TestOnlyWhatIsReopenedWaitsForAJumpHost(t *testing.T) {
	withFixture(t, func(f *fixture) {
		through := f.network.Version(Ref{UID: "web-uid"}, f.access("web", f.jumpHost())).transport
		if _, err := through.dial(f.Context(), "tcp", "web:22"); !errors.Is(err, errNoRoom) || len(f.fake.Dials()) > 0 {
			t.Errorf("Dial: %v after %d dials, want %v without any", err, len(f.fake.Dials()), errNoRoom)
		}
		stream, err := through.reopen(f.Context(), "tcp", "web:22")
		if err != nil {
			t.Fatalf("Reopen: %v", err)
		}
		_ = stream.Close()
		if stream, err = through.dial(f.Context(), "tcp", "web:22"); err != nil {
			t.Fatalf("Dial, connected: %v", err)
		}
		_ = stream.Close()
	})
}

func TestTheSameAccessOfATargetAndAJumpHostIsOneVersion(t *testing.T) {
	withFixture(t, func(f *fixture) {
		j := f.jumpHost()
		_, pool := f.network.JumpHost(j.UID)
		if f.network.Version(j.Ref, j.Access) != pool.Dialer().Version() {
			t.Error("the target has a version of its own")
		}
		changed := j.Access
		changed.Version = "v2"
		if f.network.Version(j.Ref, changed) == pool.Dialer().Version() {
			t.Error("another access is the same version")
		}
	})
}

func TestBackgroundWorkEndsWithItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := background.New()
		ended := false
		if !b.Go(func(ctx context.Context) { <-ctx.Done(); ended = true }) {
			t.Fatal("nothing is run")
		}
		b.Shut()
		if b.Go(func(context.Context) { t.Error("run after Shut") }) {
			t.Error("work is taken after Shut")
		}
		b.Cut()
		b.Wait()
		if !ended {
			t.Error("Wait returned before the work")
		}
	})
}
