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
		"the host is not the one that is pinned now":  {driver.HostKeyMismatch, given},
		"its certificate is revoked":                  {driver.CertificateInvalid, given},
		"nobody knows, because it cannot be reached":  {driver.Unreachable, kept},
		"the host is right and the key is wrong also": {driver.AuthenticationFailed, kept},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				web := w.target("web", pool("p", minWarm(2)), pool("q"))
				w.ensure(web)
				running := w.acquire(request("p", "web"))
				w.refuse(tc.reason, key("v2"))
				w.ensure(web.repinned("v2"))
				sleep(time.Second)
				for _, name := range []string{"p", "q"} {
					_, err := w.exec(request(name, "web"))
					if serves := err == nil; serves != tc.keeps {
						t.Errorf("%s serves: %v (%v), want %v", name, serves, err, tc.keeps)
					}
				}
				if !tc.keeps {
					if got := w.seen("web", "p"); got.Health != HealthDown || got.Err.Reason != tc.reason {
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
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p", minWarm(2)))
		w.ensure(web)
		w.ensure(web.repinned("v2"))
		sleep(time.Second)
		w.wantLive(2, key("v2"))
		w.wantLive(2, everything)
		w.wantHealth("web", "p", HealthUp)
	})
}

// The pins were changed before the Secret was; it is still them that count.
func TestTheTrialOfChangedPinsOutlivesANewerOne(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.ensure(web)
		w.refuse(driver.Unreachable, key("v2"))
		changed := web.repinned("v2")
		w.ensure(changed)
		w.refuse(driver.HostKeyMismatch, key("v3"))
		w.ensure(changed.rotated("v3"))
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

func TestAChangedSecretDoesNotDisownAHostThatChangedItsKey(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.ensure(web)
		w.refuse(driver.HostKeyMismatch, key("v2"))
		w.ensure(web.rotated("v2"))
		sleep(time.Second)
		w.wantLive(1, key("v1"))
	})
}

func TestPinsThatCannotBeReadVouchForNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.ensure(web)
		w.fake.OnPrepare(func(driver.Endpoint) error { return &driver.Error{Reason: driver.HostKeysInvalid} })
		if err := w.set.Ensure(web.repinned("v2")); driver.AsError(err).Reason != driver.HostKeysInvalid {
			t.Errorf("Ensure: %v, want %s", err, driver.HostKeysInvalid)
		}
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

func TestABastionThatIsNotThePinnedOneAnyMoreIsGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		old, changed := w.hop("bastion", "v1", nil), w.hop("bastion", "v2", nil)
		changed.Trust = "v2"
		w.ensure(w.behind(old, "a", pool("p")))
		w.refuse(driver.HostKeyMismatch, key("v2"))
		w.ensure(w.behind(changed, "a", pool("p")))
		sleep(time.Second)
		w.live(host("a"))[0].Kill(nil)
		sleep(time.Second)
		w.wantLive(0, everything)
	})
}

// A certificate that is not valid yet is one day.
func TestABastionThatCouldNotBePreparedIsPreparedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bastions()
		valid := time.Now().Add(10 * time.Minute)
		w.fake.OnPrepare(func(e driver.Endpoint) error {
			if host("bastion")(e) && time.Now().Before(valid) {
				return &driver.Error{Reason: driver.CertificateInvalid, Message: "not valid yet"}
			}
			return nil
		})
		w.ensure(w.behind(w.hop("bastion", "v1", nil), "a", pool("p")))
		w.wantHealth("a", "p", HealthDown)
		sleep(20 * time.Minute)
		w.wantHealth("a", "p", HealthUp)
	})
}

// A client's certificate has expired, and the authority has changed with it.
func TestACertificateOfOursThatIsNoGoodSaysNothingOfTheServer(t *testing.T) {
	inWorld(t, func(w *world) {
		web := w.target("web", pool("p"))
		w.ensure(web)
		w.fake.OnPrepare(func(driver.Endpoint) error {
			return &driver.Error{Reason: driver.CertificateInvalid, Stage: driver.StagePrepare, Message: "it has expired"}
		})
		if err := w.set.Ensure(web.repinned("v2")); driver.AsError(err).Reason != driver.CertificateInvalid {
			t.Fatalf("Ensure: %v, want %s", err, driver.CertificateInvalid)
		}
		sleep(time.Second)
		w.wantLive(1, key("v1"))
	})
}
