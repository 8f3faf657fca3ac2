package use_test

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/registry/exec"
	"github.com/connpool/connpool/internal/registry/forward"
	"github.com/connpool/connpool/internal/registry/proxy"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture serves all uses of pools.
type fixture struct{ *registrytest.Fixture }

// inFixture runs a test in virtual time.
func inFixture(t *testing.T, test func(*fixture), changes ...func(*use.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{registrytest.New(t, changes...)}
		defer f.Close()
		f.Storage["connectionpools/exec"] = exec.NewCommands(f.Gate.Memory).Storage(exec.InPools(f.Gate))
		f.Storage["connectionpools/portforward"] = forward.New(f.Gate)
		f.Storage["connectionpools/proxy"] = proxy.New(f.Gate)
		test(f)
	})
}
