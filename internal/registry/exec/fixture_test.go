package exec

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves commands in pools.
type fixture struct {
	*registrytest.Fixture

	commands *Commands
}

func newFixture(tb testing.TB, changes ...func(*use.Config)) *fixture {
	tb.Helper()
	f := &fixture{Fixture: registrytest.New(tb, changes...)}
	f.commands = NewCommands(f.Gate.Memory)
	f.Storage["connectionpools/exec"] = f.commands.Storage(InPools(f.Gate))
	return f
}

// inFixture runs a test in virtual time.
func inFixture(t *testing.T, test func(*fixture), changes ...func(*use.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, changes...)
		defer f.Close()
		test(f)
	})
}
