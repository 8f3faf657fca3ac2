package check

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheckExplainsStageByStage(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Checks["web-1"] = livev1alpha1.CheckStatus{
		Ready: true, RemoteAddress: "10.0.0.7:22", ServerVersion: "SSH-2.0-OpenSSH_9.8",
		Stages: []livev1alpha1.CheckStage{{Name: "resolve", Passed: true, DurationMicroseconds: 1200, Message: "10.0.0.7"}},
	}
	f.Checks["web-2"] = livev1alpha1.CheckStatus{
		Stages: []livev1alpha1.CheckStage{
			{Name: "connect", Passed: true, DurationMicroseconds: 320},
			{Name: "authentication", DurationMicroseconds: 41_000, Reason: "AuthenticationFailed", Message: "The key is refused.\x1b]0;x\x07 Add it."},
		},
	}
	clitest.Want(t, f.Run("check", "web-1"), 0, `
web-1 is ready at 10.0.0.7:22 (SSH-2.0-OpenSSH_9.8)
  ✔ resolve             1.2ms  10.0.0.7
`)
	clitest.Want(t, f.Run("check", "--pool", "web"), 1, `
web-1 is ready at 10.0.0.7:22 (SSH-2.0-OpenSSH_9.8)
  ✔ resolve             1.2ms  10.0.0.7

web-2 is not ready
  ✔ connect             320µs
  ✘ authentication       41ms  AuthenticationFailed: The key is refused.]0;x Add it.
`)
	clitest.WantStderr(t, f.Run("check", "web-3"), 1, "Did you mean web-1 or web-2?")
	clitest.WantStderr(t, f.Run("check"), 1, "name either targets or a pool")
	if got := f.Run("check", "web-2", "-o", "json"); got.Code != 1 || !strings.Contains(got.Stdout, `"ready": false`) {
		t.Errorf("got %+v", got)
	}
}
