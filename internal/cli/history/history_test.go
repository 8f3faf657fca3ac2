package history

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const path = "/apis/live.connpool.dev/v1alpha1/namespaces/shop/uses"

func use(name string, minutes int, change func(*livev1alpha1.Use)) livev1alpha1.Use {
	u := livev1alpha1.Use{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(minutes)},
		Pool:       "web", Target: "web-1", User: "alice", Action: livev1alpha1.UseExec, State: livev1alpha1.UseEnded,
		DurationMicroseconds: 120_000, AcquireMicroseconds: 30, Acquired: livev1alpha1.AcquiredWarm, Connection: "web-1-7",
	}
	change(&u)
	return u
}

func uses() []livev1alpha1.Use {
	return []livev1alpha1.Use{
		use("web-8", 1, func(u *livev1alpha1.Use) {
			u.State, u.Action, u.Session = livev1alpha1.UseRunning, livev1alpha1.UseSession, "web-x2"
		}),
		use("web-7", 2, func(u *livev1alpha1.Use) { u.ExitCode = new(int32(3)) }),
		use("web-6", 5, func(u *livev1alpha1.Use) {
			u.ExitCode, u.Command = new(int32(0)), []string{"systemctl", "restart", "nginx\x1b[2K"}
		}),
		use("web-5", 9, func(u *livev1alpha1.Use) {
			u.Action, u.Method, u.Path, u.HTTPStatus = livev1alpha1.UseProxy, "DELETE", "/v1.41/containers/db", 204
		}),
		use("web-4", 30, func(u *livev1alpha1.Use) {
			u.Action, u.Host, u.User = livev1alpha1.UsePortForward, "localhost", "bob"
		}),
		use("web-3", 90, func(u *livev1alpha1.Use) {
			u.State, u.Reason, u.HTTPStatus, u.Target = livev1alpha1.UseRefused, "PoolExhausted", 429, ""
			u.Message = "every connection is in use"
		}),
		use("web-2", 95, func(u *livev1alpha1.Use) { u.Outcome, u.Reason = livev1alpha1.OutcomeUnknown, "Unreachable" }),
	}
}

// serve answers with pages of the uses, and keeps the queries.
func serve(f *clitest.Fixture, all []livev1alpha1.Use, perPage int) (queries *[]string) {
	queries = new([]string)
	f.Answers[path] = func(out http.ResponseWriter, r *http.Request) {
		*queries = append(*queries, r.URL.Query().Get("fieldSelector"))
		var from int
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &from)
		to := min(from+perPage, len(all))
		page := livev1alpha1.UseList{Items: all[from:to]}
		if to < len(all) {
			page.Continue = strconv.Itoa(to)
		}
		f.Answer(out, page)
	}
	return queries
}

func TestUsesAreListedWithWhoAndHowTheyEnded(t *testing.T) {
	f := clitest.Shop(t, New)
	serve(f, uses(), 3)
	clitest.Want(t, f.Run("history"), 0, `
NAME    AGE   USER    POOL   TARGET   WHAT                              RESULT                   DURATION
web-8   60s   alice   web    web-1    session (session web-x2)          running                  120ms
web-7   2m    alice   web    web-1    exec                              exit 3                   120ms
web-6   5m    alice   web    web-1    exec systemctl restart nginx[2K   exit 0                   120ms
web-5   9m    alice   web    web-1    DELETE /v1.41/containers/db       status 204               120ms
web-4   30m   bob     web    web-1    portforward localhost             ended                    120ms
web-3   90m   alice   web    -        exec                              refused: PoolExhausted   -
web-2   95m   alice   web    web-1    exec                              unknown: Unreachable     120ms
`)
	if got := f.Run("history", "-o", "wide"); !strings.Contains(got.Stdout, "every connection is in use") || !strings.Contains(got.Stdout, "web-1-7") {
		t.Errorf("wide shows %s", got.Stdout)
	}
	if got := f.Run("history", "-o", "name", "--limit", "1"); got.Stdout != "use/web-8\n" {
		t.Errorf("names are %q", got.Stdout)
	}
	var list livev1alpha1.UseList
	if err := json.Unmarshal([]byte(f.Run("history", "-o", "json").Stdout), &list); err != nil || len(list.Items) != 7 || list.Kind != "UseList" {
		t.Errorf("JSON has %d uses of kind %s, %v", len(list.Items), list.Kind, err)
	}
}

func TestUsesAreFiltered(t *testing.T) {
	f := clitest.Shop(t, New)
	queries := serve(f, uses(), 500)
	f.Run("history", "web", "--by", "bob", "--target", "web-1", "--state", "running")
	asked := strings.Split((*queries)[0], ",")
	slices.Sort(asked)
	if got := strings.Join(asked, " "); got != "pool=web state=Running target=web-1 user=bob" {
		t.Errorf("asked for %q", got)
	}
	if got := f.Run("history", "--since", "6m", "-o", "name"); got.Stdout != "use/web-8\nuse/web-7\nuse/web-6\n" {
		t.Errorf("since 6m are %q", got.Stdout)
	}
	got := f.Run("history", "--limit", "2")
	if strings.Count(got.Stdout, "\n") != 3 {
		t.Errorf("--limit 2 prints %s", got.Stdout)
	}
	clitest.WantStderr(t, got, 0, "There are more; --limit 0 shows all.")
	clitest.WantStderr(t, f.Run("history", "--state", "busy"), 1, "Running, Ended, Refused")
	clitest.WantStderr(t, f.Run("history", "--since", "-5m"), 1, "--since must not be negative")
	clitest.WantStderr(t, f.Run("history", "--limit", "-1"), 1, "--limit must not be negative")
}

func TestTheHistoryIsListedAsKubectlLists(t *testing.T) {
	f := clitest.Shop(t, New)
	serve(f, uses(), 500)
	for line, want := range map[string]string{
		"history --limit 1 --no-headers":                                    "web-8   60s   alice   web   web-1   session (session web-x2)   running   120ms\n",
		"history -o jsonpath={.items[*].metadata.name} --limit 2":           "web-8 web-7",
		"history -o custom-columns=WHO:.user,CODE:.exitCode --limit 2":      "WHO     CODE\nalice   <none>\nalice   3\n",
		"history -o name --sort-by .user --since 1h":                        "use/web-8\nuse/web-7\nuse/web-6\nuse/web-5\nuse/web-4\n",
		"history -o name --sort-by {.metadata.creationTimestamp} --limit 2": "use/web-7\nuse/web-8\n",
	} {
		clitest.Want(t, f.Run(strings.Fields(line)...), 0, want)
	}
	clitest.WantStderr(t, f.Run("history", "-l", "a=b"), 1, "-l")
}

func TestTheHistoryOfWhatDoesNotExistIsAnError(t *testing.T) {
	f := clitest.Shop(t, New)
	serve(f, nil, 500)
	clitest.WantStderr(t, f.Run("history", "wob"), 1, `"wob"`, "Did you mean web?")
	clitest.WantStderr(t, f.Run("history", "--target", "web-9", "-o", "json"), 1, `"web-9"`, "Did you mean web-1 or web-2?")
	clitest.WantStderr(t, f.Run("history", "web", "--target", "connectiontarget/web-1"), 0, "No uses of pool web in namespace shop.")
	serve(f, uses(), 500)
	clitest.WantStderr(t, f.Run("history", "deleted"), 0) // a pool that is gone may have a history
}

func TestAnEmptyHistorySaysSo(t *testing.T) {
	f := clitest.Shop(t, New)
	serve(f, nil, 500)
	clitest.WantStderr(t, f.Run("history"), 0, "No uses in namespace shop.")
}

func TestWhoMayNotSeeTheHistoryIsToldTheRole(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["list live.connpool.dev/uses"] = true
	clitest.WantStderr(t, f.Run("history"), 1, `resources: ["uses"]`, "verbs: [get, list]")
}
