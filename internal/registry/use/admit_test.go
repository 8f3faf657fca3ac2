package use_test

import (
	"net/http"
	"strings"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

// The headers of a request are held as long as its use lasts.
func TestLongHeadersOfManyUsesAreRefused(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		long := func(req *http.Request) { req.Header.Set("X-Long", strings.Repeat("x", 100<<10)) }
		f.Post(f.Context(), "web", registrytest.Command("true"), long).WantOutcome(f, live.OutcomeCompleted)
		robot := quota.Owner{Namespace: registrytest.Namespace, User: "robot"}
		f.Gate.Memory.Input.Add(robot, 3<<20)
		f.Post(f.Context(), "web", registrytest.Command("true"), long).WantRefusal(f, http.StatusTooManyRequests, "shorter headers")
		f.Gate.Memory.Input.Add(robot, -3<<20)
		f.Post(f.Context(), "web", registrytest.Command("true"), long).WantOutcome(f, live.OutcomeCompleted)
		if !f.Idle() {
			t.Error("a use is left")
		}
	}, func(c *use.Config) { c.Limits.Memory = 64 << 20 })
}
