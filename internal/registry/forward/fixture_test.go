package forward

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves forwards, and commands beside them.
type fixture struct{ *registrytest.Fixture }

func newFixture(tb testing.TB, changes ...func(*use.Config)) *fixture {
	tb.Helper()
	f := &fixture{registrytest.New(tb, changes...)}
	f.Storage["connectionpools/portforward"] = New(f.Gate)
	f.Storage["connectionpools/exec"] = exec.NewCommands(f.Gate.Memory).Storage(exec.InPools(f.Gate))
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

// served runs a test against pool web behind a real server.
func served(t *testing.T, test func(*fixture, *httptest.Server)) {
	t.Helper()
	f := newFixture(t)
	f.Web()
	server := httptest.NewServer(f)
	defer func() {
		server.Close()
		if err := f.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		f.Close()
	}()
	test(f, server)
}
