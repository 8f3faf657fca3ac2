package connections

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConnectionsAreListed(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	clitest.Want(t, f.Run("connections"), 0, `
NAME      POOL   TARGET   TYPE   STATE   IN-USE   USES   IDLE   RTT     AGE
db-1-3    db     db-1     ssh    Idle    0        17     52m    -       52m
web-1-7   web    web-1    ssh    InUse   2        41     -      480µs   30m
`)
	clitest.Want(t, f.Run("connections", "web", "--state", "inuse", "-o", "wide"), 0, `
NAME      POOL   TARGET   TYPE   STATE   IN-USE   USES   IDLE   RTT     AGE   ADDRESS       SERVER                HANDSHAKE   SAVED   REPLICA
web-1-7   web    web-1    ssh    InUse   2        41     -      480µs   30m   10.0.0.7:22   SSH-2.0-OpenSSH_9.8   33ms        1.4s    connpool-manager-0
`)
	clitest.Want(t, f.Run("connections", "--target", "db-1", "-o", "name"), 0, "connection/db-1-3\n")
	clitest.WantStderr(t, f.Run("connections", "web", "--state", "Draining"), 0, "No connections of pool web in namespace shop.")
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
	for _, name := range []string{"connection/web-1-7", "connections/web-1-7", "connection.live.connpool.dev/web-1-7"} {
		clitest.Want(t, f.Run("drain", name), 0,
			"Connection web-1-7 is being replaced; it closes when nothing uses it any more.\n")
	}
	clitest.WantStderr(t, f.Run("drain", "connection/web-1-8"), 1, "kubectl connpool connections")
	clitest.WantStderr(t, f.Run("drain", "wob"), 1, "Did you mean web?")
	clitest.WantStderr(t, f.Run("drain", "target/web-1"), 1, "neither a pool nor connection/NAME")
	f.Connections = nil
	clitest.Want(t, f.Run("drain", "web"), 0, "Pool web has no connections to replace.\n")
}

func TestANameThatDoesNotExistIsAnErrorAndNoEmptyList(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	clitest.WantStderr(t, f.Run("connections", "wob"), 1, `"wob"`, "Did you mean web?")
	clitest.WantStderr(t, f.Run("connections", "--target", "web-9"), 1, `"web-9"`, "Did you mean web-1 or web-2?")
	clitest.WantStderr(t, f.Run("connections", "wob", "-o", "json"), 1, "wob")
	f.Denied["get connpool.dev/connectionpools"] = true
	clitest.WantStderr(t, f.Run("connections", "wob"), 0, "No connections of pool wob in namespace shop.")
}

func TestTheKindMayStandBeforeTheName(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	for _, kind := range []string{"connectionpool/", "connectionpools/", "connectionpool.connpool.dev/", "cpool/", "pool/"} {
		clitest.Want(t, f.Run("connections", kind+"web", "-o", "name"), 0, "connection/web-1-7\n")
	}
	clitest.Want(t, f.Run("connections", "--target", "connectiontarget/db-1", "-o", "name"), 0, "connection/db-1-3\n")
}

func TestConnectionsAreListedAsKubectlLists(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	for name, test := range map[string]struct{ line, want string }{
		"without a head": {"--no-headers", "db-1-3    db    db-1    ssh   Idle    0   17   52m   -       52m\nweb-1-7   web   web-1   ssh   InUse   2   41   -     480µs   30m\n"},
		"a JSONPath":     {"-o jsonpath={.items[*].metadata.name}", "db-1-3 web-1-7"},
		"a range in it":  {`-o jsonpath={range_.items[*]}{.pool}{"\n"}{end}`, "db\nweb\n"},
		"columns":        {"-o custom-columns=WHO:.metadata.name,USES:.useCount,RTT:.roundTripMicroseconds", "WHO       USES   RTT\ndb-1-3    17     <none>\nweb-1-7   41     480\n"},
		"columns alone":  {"-o custom-columns=P:pool --no-headers", "db\nweb\n"},
	} {
		t.Run(name, func(t *testing.T) {
			words := strings.Fields(test.line)
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "range_", "range ")
			}
			clitest.Want(t, f.Run(append([]string{"connections"}, words...)...), 0, test.want)
		})
	}
	for line, want := range map[string]string{
		"--sort-by .nothing":             "none of the connections has the field .nothing",
		"--sort-by {.x[}":                "is not a valid JSONPath",
		"-o jsonpath":                    "needs a template",
		"-o jsonpath={.items[}":          "is not a valid JSONPath",
		"-o custom-columns=NAME":         "is not of the form TITLE:FIELD",
		"-o json=x":                      "is not a valid format",
		"-o jsonpath-file=x":             "use one of json, yaml, name, wide, jsonpath=..., custom-columns=...",
		"-o custom-columns=NAME:,B:name": "name a field",
	} {
		clitest.WantStderr(t, f.Run(append([]string{"connections"}, strings.Fields(line)...)...), 1, want)
	}
}

func TestConnectionsAreSortedByAnyField(t *testing.T) {
	f := clitest.Shop(t, New, NewDrain)
	f.Connections = append(f.Connections, livev1alpha1.Connection{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1-9", Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(10)},
		Pool:       "web", Target: "web-1", Type: "ssh", State: livev1alpha1.ConnectionIdle, UseCount: 5, RoundTripMicroseconds: 90,
	})
	for field, want := range map[string]string{
		"":                           "db-1-3 web-1-7 web-1-9",
		".useCount":                  "web-1-9 db-1-3 web-1-7", // as numbers: 5 17 41
		"{.state}":                   "db-1-3 web-1-9 web-1-7",
		"metadata.creationTimestamp": "db-1-3 web-1-7 web-1-9",
		".roundTripMicroseconds":     "db-1-3 web-1-9 web-1-7", // absent, 90, 480
		"{.metadata.name}":           "db-1-3 web-1-7 web-1-9",
	} {
		got := f.Run("connections", "-o", "jsonpath={.items[*].metadata.name}", "--sort-by", field)
		clitest.Want(t, got, 0, want)
	}
}
