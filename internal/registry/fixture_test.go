package registry

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves the whole registry.
type fixture struct {
	*registrytest.Fixture

	registry *Registry
}

func newFixture(tb testing.TB, changes ...func(*use.Config)) *fixture {
	tb.Helper()
	f := &fixture{Fixture: registrytest.New(tb)}
	config := use.Config{Objects: f.Objects, Authorizer: f.Authorizer, Audit: f.Gate.Config.Audit}
	for _, change := range changes {
		change(&config)
	}
	f.registry = New(f.Set, "replica-0", config)
	f.Gate, f.Storage = f.registry.gate, f.registry.Storage()
	return f
}

// inFixture runs a test in virtual time.
func inFixture(t *testing.T, test func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		defer f.Close()
		test(f)
	})
}
