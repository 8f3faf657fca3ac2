package status

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStatusShowsAllPoolsAndWhatFails(t *testing.T) {
	clitest.Want(t, clitest.Shop(t, New).Run("status"), 0, `
NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES    OLDEST   READY   STATUS     AGE
db     ssh    1         1               1      0        17      52m      True    Warm       -
web    ssh    2         1               1      1        10423   30m      True    Degraded   -

web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.
`)
}

func TestStatusOfAllNamespacesNamesThem(t *testing.T) {
	got := clitest.Shop(t, New).Run("status", "-A", "-o", "wide")
	clitest.Want(t, got, 0, `
NAMESPACE   NAME   TYPE   TARGETS   READY-TARGETS   WARM   IN-USE   USES    OLDEST   READY   STATUS     AGE   LAST-USED   DESIRED   DIALING   DRAINING   SINCE
shop        db     ssh    1         1               1      0        17      52m      True    Warm       -     3m          1         0         0          3h
shop        web    ssh    2         1               1      1        10423   30m      True    Degraded   -     0s          1         0         0          12m
other       new    -      -         -               0      0        0       -        -       Unknown    -     -           0         0         0          -

shop/web: Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
  ✘ web-2: AuthenticationFailed for 12m
    The server refuses the key.[31m Add its public half to authorized_keys.

other/new: Unknown. The operator has not looked at it yet.
`)
}

func TestStatusOfOnePoolShowsItsTargetsAndTheirConditions(t *testing.T) {
	clitest.Want(t, clitest.Shop(t, New).Run("status", "web"), 0, `
Pool web (ssh) in namespace shop

Status:      Degraded for 12m. 1 of 2 targets lacks its warm connections: web-2.
Targets:     1/2 ready
Connections: 1 warm of 1 wanted, 1 in use, 0 dialing, 0 draining, oldest 30m
Uses:        10423, last 0s ago

NAME    TYPE   ENDPOINT          WARM   IN-USE   USES   OLDEST   READY   STATUS                 AGE
web-1   -      deploy@web-1:22   1      1        41     30m      True    Warm                   -
web-2   -      deploy@web-2:22   0      0        9      -        False   AuthenticationFailed   -

✘ web-2: AuthenticationFailed for 12m. The server refuses the key.[31m Add its public half to authorized_keys.
    ✔ CredentialsReady=True for 3h, CredentialsValid: The Secret can be used.
    ✘ Reachable=False for 12m, AuthenticationFailed: The server refuses the key: publickey.
`)
}

func TestStatusForPrograms(t *testing.T) {
	f := clitest.Shop(t, New)
	got := f.Run("status", "web", "-o", "json")
	var report poolReport
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, got.Stdout)
	}
	if report.Health != healthDegraded || len(report.Members) != 2 || report.Failing[0].Message == "" {
		t.Errorf("reported %+v", report)
	}
	clitest.Want(t, f.Run("status", "-o", "name"), 0, "connectionpool.connpool.dev/db\nconnectionpool.connpool.dev/web\n")
	if got := f.Run("status", "-o", "yaml"); !strings.HasPrefix(got.Stdout, "pools:\n") {
		t.Errorf("yaml is %s", got.Stdout)
	}
}

func TestStatusWithoutPools(t *testing.T) {
	got := clitest.New(t, New).Run("status")
	clitest.Want(t, got, 0, "")
	clitest.WantStderr(t, got, 0, "No pools in namespace shop.")
}

func TestAUserWhoMayNotReadTargetsStillSeesPools(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["list connpool.dev/connectiontargets"] = true
	got := f.Run("status")
	if !strings.Contains(got.Stdout, "web-2: AuthenticationFailed for 12m") {
		t.Errorf("stdout is %s", got.Stdout)
	}
	clitest.WantStderr(t, got, 0, "without details of targets", `resources: ["connectiontargets"]`)
}
