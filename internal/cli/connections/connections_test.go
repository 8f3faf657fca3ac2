package connections

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConnectionsAreListed(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	clitest.Want(t, f.Run("connections"), 0, `
NAME      POOL   TARGET   STATE   IN USE   USES   IDLE   RTT     AGE
db-1-3    db     db-1     Idle    0        17     52m    -       52m
web-1-7   web    web-1    InUse   2        41     -      480µs   30m
`)
	clitest.Want(t, f.Run("connections", "web", "--state", "inuse", "-o", "wide"), 0, `
NAME      POOL   TARGET   STATE   IN USE   USES   IDLE   RTT     AGE   TYPE   HANDSHAKE   ADDRESS       SERVER                REPLICA
web-1-7   web    web-1    InUse   2        41     -      480µs   30m   ssh    33ms        10.0.0.7:22   SSH-2.0-OpenSSH_9.8   connpool-manager-0
`)
	clitest.Want(t, f.Run("connections", "--target", "db-1", "-o", "name"), 0, "connection/db-1-3\n")
	clitest.WantStderr(t, f.Run("connections", "wep"), 1, `there is no pool "wep" in namespace shop`, "Did you mean web?")
	f.Denied["get connpool.dev/connectionpools"] = true // then it cannot be told
	clitest.WantStderr(t, f.Run("connections", "wep"), 0, "No connections in namespace shop.")
	clitest.WantStderr(t, f.Run("connections", "--state", "busy"), 1, "Idle, InUse, Draining")

	var list livev1alpha1.ConnectionList
	if err := json.Unmarshal([]byte(f.Run("connections", "-A", "-o", "json").Stdout), &list); err != nil || len(list.Items) != 2 {
		t.Errorf("listed %v, %v", list, err)
	}
}

func TestLongListsAreReadPageByPage(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	f.Answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = func(out http.ResponseWriter, r *http.Request) {
		page := livev1alpha1.ConnectionList{Items: f.Connections[:1]}
		page.Continue = "2"
		if r.URL.Query().Get("continue") == "2" {
			page = livev1alpha1.ConnectionList{Items: f.Connections[1:]}
		}
		f.Answer(out, page)
	}
	if got := f.Run("connections", "-o", "name"); strings.Count(got.Stdout, "\n") != 2 {
		t.Errorf("listed %q", got.Stdout)
	}
}

func TestDrainSaysWhatWasDone(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	clitest.Want(t, f.Run("drain", "web"), 0,
		"Pool web: 2 connections are being replaced; each closes when nothing uses it any more.\n")
	clitest.Want(t, f.Run("drain", "connection/web-1-7"), 0,
		"Connection web-1-7 is being replaced; it closes when nothing uses it any more.\n")
	clitest.WantStderr(t, f.Run("drain", "connection/web-1-8"), 1, "kubectl connpool connections")
	clitest.WantStderr(t, f.Run("drain", "wob"), 1, "Did you mean web?")
	clitest.WantStderr(t, f.Run("drain", "target/web-1"), 1, "neither a pool nor connection/NAME")
	f.Connections = nil
	clitest.Want(t, f.Run("drain", "web"), 0, "Pool web has no connections to replace.\n")
}
