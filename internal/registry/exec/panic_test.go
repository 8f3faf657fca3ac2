package exec

import (
	"context"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// countingRunner counts its ends, and panics where it is told to.
type countingRunner struct {
	panics string
	closed int
}

func (r *countingRunner) step(name string) {
	if r.panics == name {
		panic(name)
	}
}

func (r *countingRunner) Lease() use.LeaseInfo { r.step("lease"); return use.LeaseInfo{} }

func (r *countingRunner) Watch(ctx context.Context) (watched context.Context, stop func()) {
	r.step("watch")
	return ctx, func() {}
}

func (r *countingRunner) Run(context.Context, driver.Command, driver.Streams) (driver.ExitStatus, error) {
	r.step("run")
	return driver.ExitStatus{}, nil
}

func (r *countingRunner) Close() { r.closed++ }

func TestAPanicGivesBackWhatACommandHolds(t *testing.T) {
	for _, where := range []string{"", "watch", "lease", "run"} {
		t.Run("in "+where, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				runner := &countingRunner{panics: where}
				f.Storage["connectionpools/exec"] = NewCommands(f.Gate.Memory).Storage(func(ctx context.Context, pool string) (*use.Use, Backend, error) {
					u, err := f.Gate.Admit(ctx, pool, "exec")
					return u, Backend{Open: func(context.Context, *Command) (Runner, error) { return runner, nil }}, err
				})
				func() {
					defer func() {
						if panicked := recover() != nil; panicked != (where != "") {
							t.Errorf("panicked: %t", panicked)
						}
					}()
					f.Post(f.Context(), "web", registrytest.Command("true"))
				}()
				if runner.closed != 1 || !f.Idle() {
					t.Errorf("it was closed %d times, and nothing is used: %t", runner.closed, f.Idle())
				}
				for _, used := range f.Gate.History.List("") {
					if used.State == live.UseRunning {
						t.Errorf("the history says that it runs: %+v", used)
					}
				}
			})
		})
	}
}
