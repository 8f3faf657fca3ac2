package poolset

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// preparations counts those of each host, and holds back those of hosts that begin
// with "slow".
type preparations struct {
	mu    sync.Mutex
	count map[string]int
	held  int
	most  int
	free  chan struct{}
}

func (p *preparations) prepare(e driver.Endpoint) error {
	p.mu.Lock()
	p.count[e.Address]++
	p.mu.Unlock()
	if !strings.HasPrefix(e.Address, "slow") {
		return nil
	}
	p.hold(1)
	defer p.hold(-1)
	<-p.free
	return nil
}

func (p *preparations) hold(change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held += change
	p.most = max(p.most, p.held)
}

func (p *preparations) of(host string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[host+":22"]
}

func (f *fixture) countPreparations() *preparations {
	p := &preparations{count: map[string]int{}, free: make(chan struct{})}
	f.fake.OnPrepare(p.prepare)
	return p
}

// in puts a target into a namespace.
func (t Target) in(namespace string) Target {
	t.Namespace = namespace
	return t
}

func TestExpensiveKeysOfANamespaceDoNotDelayAnother(t *testing.T) {
	withFixture(t, func(f *fixture) {
		p := f.countPreparations()
		for i := range 8 {
			err := f.set.Ensure(f.target(fmt.Sprintf("slow-%d", i), pool("p"), pool("q")).in("a"))
			if _, preparing := errors.AsType[*PreparingError](err); !preparing {
				t.Fatalf("Ensure: %v, want that it is being prepared", err)
			}
		}
		synctest.Wait()
		begun := time.Now()
		f.ensure(f.target("innocent", pool("r")).in("b"))
		f.wantHealth("innocent", "r", HealthUp)
		if took := time.Since(begun); took > 0 {
			t.Errorf("the innocent target was ready after %s", took)
		}
		close(p.free)
		synctest.Wait()
		for i := range 8 {
			name := fmt.Sprintf("slow-%d", i)
			f.ensure(f.target(name, pool("p"), pool("q")).in("a"))
			f.wantHealth(name, "p", HealthUp)
			f.wantHealth(name, "q", HealthUp)
			if n := p.of(name); n != 1 {
				t.Errorf("%s was prepared %d times, want once for its two pools", name, n)
			}
		}
		if p.most != 1 {
			t.Errorf("%d preparations of one namespace ran at the same time, want 1", p.most)
		}
	})
}

func TestCredentialsArePreparedOncePerVersion(t *testing.T) {
	withFixture(t, func(f *fixture) {
		f.letJumpHostsForward()
		p := f.countPreparations()
		jump := f.jumpHost("jump", "v1", nil)
		for range 3 {
			f.ensure(f.target("jump", pool("p")), f.behind(jump, "a", pool("p"), pool("q")), f.behind(jump, "b", pool("p")))
		}
		f.check("a")
		f.check("a")
		for _, name := range []string{"jump", "a", "b"} {
			if n := p.of(name); n != 1 {
				t.Errorf("%s was prepared %d times, want once", name, n)
			}
		}
		f.ensure(f.behind(jump, "a", pool("p")).rotated("v2"))
		if n := p.of("a"); n != 2 {
			t.Errorf("two versions were prepared %d times", n)
		}
	})
}

func TestCredentialsThatCannotBeUsedAreNotPreparedAtEachLook(t *testing.T) {
	withFixture(t, func(f *fixture) {
		looks := 0
		f.fake.OnPrepare(func(driver.Endpoint) error {
			looks++
			return &driver.Error{Reason: driver.CredentialsInvalid}
		})
		web := f.target("web", pool("p"))
		for range 100 {
			if err := f.ensured(web); driver.AsError(err).Reason != driver.CredentialsInvalid {
				t.Fatalf("Ensure: %v", err)
			}
		}
		if looks != 1 {
			t.Errorf("prepared %d times, want once", looks)
		}
		f.fake.OnPrepare(nil) // such as a certificate that is valid from now on
		sleep(time.Minute)
		_ = f.set.Ensure(web)
		synctest.Wait()
		f.ensure(web)
		f.wantHealth("web", "p", HealthUp)
	})
}

func TestWhatServesGoesOnWhileChangedCredentialsAreBeingPrepared(t *testing.T) {
	for name, change := range map[string]func(Target) Target{
		"of the same account": func(web Target) Target { return web.rotated("v2") },
		"of another host": func(web Target) Target {
			web.Identity, web.Endpoint.Address = "elsewhere", "slow-elsewhere:22"
			return web
		},
	} {
		t.Run(name, func(t *testing.T) {
			withFixture(t, func(f *fixture) {
				web := f.target("web", pool("p"))
				f.ensure(web)
				p := f.countPreparations()
				changed := change(web)
				changed.Endpoint.Address = "slow-" + changed.Endpoint.Address
				changed.Pools = []Pool{pool("p", minWarm(2))}
				if err := f.set.Ensure(changed); !isPreparing(err) {
					t.Fatalf("Ensure: %v, want that it is being prepared", err)
				}
				synctest.Wait()
				f.wantLive(2, key("v1"))
				if _, err := f.exec(request("p", "web")); err != nil {
					t.Errorf("exec meanwhile: %v", err)
				}
				news := f.news.Load()
				close(p.free)
				synctest.Wait()
				if f.news.Load() == news {
					t.Error("subscribers were not told that the credentials are prepared")
				}
				f.ensure(changed)
				sleep(time.Second)
				f.wantLive(2, func(e driver.Endpoint) bool { return e.Address == changed.Endpoint.Address })
				f.wantLive(2, everything)
			})
		})
	}
}
