package registry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestWaitEndsWhatOutlastsIt(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		if err := f.registry.Wait(f.Context()); err != nil {
			t.Errorf("nothing runs, and Wait says %v", err)
		}
		f.Fake.OnExec(registrytest.Lasting(nil))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep", "infinity"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := f.registry.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("Wait says %v after %v", err, time.Since(began))
		}
		got := <-running
		got.WantOutcome(f, live.OutcomeUnknown)
		if got.Exec.Status.Reason != use.ReasonShutdown {
			t.Errorf("reason is %q", got.Exec.Status.Reason)
		}
	})
}

func TestWaitReturnsWithTheLastUse(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep"))
		synctest.Wait()
		waited := make(chan error)
		go func() { waited <- f.registry.Wait(context.Background()) }()
		synctest.Wait()
		close(release)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		(<-running).WantOutcome(f, live.OutcomeCompleted)
	})
}
