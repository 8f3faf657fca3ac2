package poolset

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// F15 for credentials that name the server themselves, such as a kubeconfig.
func TestAnUnknownIdentityIsTheOneThatItWas(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.fake.OnPrepare(func(e driver.Endpoint) error {
			if key("broken")(e) {
				return &driver.Error{Reason: driver.CredentialsInvalid, Message: "cannot be read"}
			}
			return nil
		})
		broken := web.rotated("broken")
		broken.Identity = ""
		if err := f.ensured(broken); driver.AsError(err).Reason != driver.CredentialsInvalid {
			t.Fatalf("Ensure: %v, want %s", err, driver.CredentialsInvalid)
		}
		sleep(time.Minute)
		if _, err := f.exec(request("p", "web")); err != nil {
			t.Errorf("the connection made earlier does not serve: %v", err)
		}
		f.wantDials(1, everything)

		f.ensure(web.rotated("v2"))
		f.wantLive(1, key("v2"))
	})
}

func TestAnUnknownIdentityOfAnotherProtocolIsAnother(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		other := web.rotated("v2")
		other.Identity, other.Type = "", "another"
		f.ensure(other)
		f.wantLive(0, key("v1"))
	})
}

// Every engine has its socket at the same path.
func TestSocketsOfTheSamePathOnDifferentHostsAreDialedSideBySide(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		const hosts = 10
		for i := range hosts {
			via := f.jumpHost(fmt.Sprint("host", i), "v1", nil)
			engine := f.behind(via, fmt.Sprint("engine", i), pool("p"))
			engine.Endpoint.Network, engine.Endpoint.Address = "unix", "/var/run/docker.sock"
			f.ensure(engine)
		}
		sleep(time.Second)
		dialing := make(chan struct{}, hosts)
		f.fake.OnDial(func(ctx context.Context, e driver.Endpoint) error {
			if e.Network == "unix" {
				dialing <- struct{}{}
				<-ctx.Done()
			}
			return nil
		})
		for _, conn := range f.live(func(e driver.Endpoint) bool { return e.Network == "unix" }) {
			conn.Kill(nil)
		}
		sleep(5 * time.Second)
		if n := len(dialing); n != hosts {
			t.Errorf("%d of %d engines are dialed at once", n, hosts)
		}
	})
}
