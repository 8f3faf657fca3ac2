package poolset

import (
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// repinned is the target with other pinned keys, which the fake's hooks tell by
// the version of the credentials.
func (t Target) repinned(version string) Target {
	t = t.rotated(version)
	t.Trust = version
	return t
}

func TestChangedPins(t *testing.T) {
	const kept, given = true, false
	tests := map[string]struct {
		reason driver.Reason
		keeps  bool
	}{
		"the host is not the one that is pinned now":      {driver.HostKeyMismatch, given},
		"its certificate is revoked":                      {driver.CertificateInvalid, given},
		"that is not known, because it cannot be reached": {driver.Unreachable, kept},
		"the host is right and the key is wrong also":     {driver.AuthenticationFailed, kept},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				web := f.target("web", pool("p", minWarm(2)), pool("q"))
				f.ensure(web)
				running := f.acquire(request("p", "web"))
				f.refuse(tc.reason, key("v2"))
				f.ensure(web.repinned("v2"))
				sleep(time.Second)
				for _, name := range []string{"p", "q"} {
					_, err := f.exec(request(name, "web"))
					if serves := err == nil; serves != tc.keeps {
						t.Errorf("%s serves: %v (%v), want %v", name, serves, err, tc.keeps)
					}
				}
				if !tc.keeps {
					if got := f.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != tc.reason {
						t.Errorf("health %v, %v, want down by %s", got.Health, got.Err, tc.reason)
					}
				}
				if err := running.Conn().Context().Err(); err != nil {
					t.Errorf("what ran was cut at once: %v", err)
				}
				running.Release()
			})
		})
	}
}

func TestChangedPinsThatAreRightCutNothing(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p", minWarm(2)))
		f.ensure(web)
		f.ensure(web.repinned("v2"))
		sleep(time.Second)
		f.wantLive(2, key("v2"))
		f.wantLive(2, everything)
		f.wantHealth("web", "p", HealthUp)
	})
}

// The pins were changed first, then the Secret: the pins still count.
func TestChangedPinsStillCountAfterTheSecretChanges(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.refuse(driver.Unreachable, key("v2"))
		changed := web.repinned("v2")
		f.ensure(changed)
		f.refuse(driver.HostKeyMismatch, key("v3"))
		f.ensure(changed.rotated("v3"))
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

func TestAChangedSecretKeepsTheConnectionsToAHostThatChangedItsKey(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.refuse(driver.HostKeyMismatch, key("v2"))
		f.ensure(web.rotated("v2"))
		sleep(time.Second)
		f.wantLive(1, key("v1"))
	})
}

func TestPinsThatCannotBeReadTrustNoConnection(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.fake.OnPrepare(func(driver.Endpoint) error { return &driver.Error{Reason: driver.HostKeysInvalid} })
		if err := f.ensured(web.repinned("v2")); driver.AsError(err).Reason != driver.HostKeysInvalid {
			t.Errorf("Ensure: %v, want %s", err, driver.HostKeysInvalid)
		}
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

func TestAJumpHostThatIsNoLongerThePinnedOneIsGivenUp(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		old, changed := f.jumpHost("jump", "v1", nil), f.jumpHost("jump", "v2", nil)
		changed.Trust = "v2"
		f.ensure(f.behind(old, "a", pool("p")))
		f.refuse(driver.HostKeyMismatch, key("v2"))
		f.ensure(f.behind(changed, "a", pool("p")))
		sleep(time.Second)
		f.live(host("a"))[0].Kill(nil)
		sleep(time.Second)
		f.wantLive(0, everything)
	})
}

// A certificate that is not valid yet becomes valid.
func TestAJumpHostThatCouldNotBePreparedIsPreparedAgain(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		valid := time.Now().Add(10 * time.Minute)
		f.fake.OnPrepare(func(e driver.Endpoint) error {
			if host("jump")(e) && time.Now().Before(valid) {
				return &driver.Error{Reason: driver.CertificateInvalid, Message: "not valid yet"}
			}
			return nil
		})
		f.ensure(f.behind(f.jumpHost("jump", "v1", nil), "a", pool("p")))
		f.wantHealth("a", "p", HealthDown)
		sleep(20 * time.Minute)
		f.wantHealth("a", "p", HealthUp)
	})
}

// A client's certificate has expired, and the authority has changed with it.
func TestABadClientCertificateSaysNothingOfTheServer(t *testing.T) {
	withFixture(t, func(f *fixture) {
		web := f.target("web", pool("p"))
		f.ensure(web)
		f.fake.OnPrepare(func(driver.Endpoint) error {
			return &driver.Error{Reason: driver.CertificateInvalid, Stage: driver.StagePrepare, Message: "it has expired"}
		})
		if err := f.ensured(web.repinned("v2")); driver.AsError(err).Reason != driver.CertificateInvalid {
			t.Fatalf("Ensure: %v, want %s", err, driver.CertificateInvalid)
		}
		sleep(time.Second)
		f.wantLive(1, key("v1"))
	})
}
