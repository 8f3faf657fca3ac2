package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func session(name, owner string, state livev1alpha1.SessionState) livev1alpha1.Session {
	ends := metav1.NewTime(clitest.Noon.Add(40 * time.Minute))
	return livev1alpha1.Session{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(20)},
		Spec:       livev1alpha1.SessionSpec{Pool: "web", Pod: "w-0", Container: "app"},
		Status: livev1alpha1.SessionStatus{
			State: state, Owner: owner, Target: "web-1", Connection: "web-1-7", CommandCount: 12, LastUsedTime: clitest.MinutesAgo(2), ExpirationTime: &ends,
		},
	}
}

// sessionShop has three sessions: two of alice, of which one has ended, and one of
// bob.
func sessionShop(t *testing.T) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, New)
	f.Sessions = []livev1alpha1.Session{
		session("web-a", "alice", livev1alpha1.SessionReady), session("web-b", "bob", livev1alpha1.SessionBusy),
		session("web-c", "alice", livev1alpha1.SessionEnded),
	}
	ended := &f.Sessions[2].Status
	ended.Reason, ended.Message = "Idle", "The session has run nothing for 10 minutes; create another."
	return f
}

func TestASessionIsCreatedWhereItIsAskedFor(t *testing.T) {
	tests := map[string]struct {
		words []string
		says  string
		want  livev1alpha1.SessionSpec
	}{
		"with defaults": {
			[]string{"web"}, "web-x7k2\n", livev1alpha1.SessionSpec{Pool: "web", TTLSeconds: 3600, IdleTimeoutSeconds: 600},
		},
		"in a pod": {
			[]string{"web/web-1", "--pod", "w-0", "--pod-namespace", "n", "-c", "app", "-o", "name"},
			"session/web-x7k2\n",
			livev1alpha1.SessionSpec{
				Pool: "web", Target: "web-1", Pod: "w-0", Namespace: "n", Container: "app", TTLSeconds: 3600, IdleTimeoutSeconds: 600,
			},
		},
		"with a name, an environment and bounds": {
			[]string{"web", "--name", "mine", "--env", "A=b", "--ttl", "90m", "--idle-timeout", "1m"},
			"mine\n",
			livev1alpha1.SessionSpec{Pool: "web", Env: map[string]string{"A": "b"}, TTLSeconds: 5400, IdleTimeoutSeconds: 60},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New)
			clitest.Want(t, f.Run(append([]string{"session", "create"}, test.words...)...), 0, test.says)
			if diff := cmp.Diff(test.want, f.Sessions[0].Spec, cmp.Transformer("empty", func(m map[string]string) string { return fmt.Sprint(m) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestASessionForPrograms(t *testing.T) {
	var created livev1alpha1.Session
	got := clitest.Shop(t, New).Run("session", "create", "web", "-o", "json")
	if err := json.Unmarshal([]byte(got.Stdout), &created); err != nil || created.Name != "web-x7k2" || created.Kind != "Session" {
		t.Errorf("%v in %+v", err, got)
	}
}

func TestSessionsThatAreRefusedSayWhy(t *testing.T) {
	tests := map[string]struct {
		denied string
		words  []string
		says   []string
	}{
		"no permission": {
			"create live.connpool.dev/sessions",
			[]string{"web"},
			[]string{`resources: ["sessions"]`, `resources: ["connectionpools/exec"]`, `resourceNames: ["web"]`, "verbs: [create]"},
		},
		"no such pool":             {"", []string{"wep"}, []string{"Did you mean web?"}},
		"too long a life":          {"", []string{"web", "--ttl", "25h"}, []string{"--ttl", "24h0m0s"}},
		"no idle time":             {"", []string{"web", "--idle-timeout", "0"}, []string{"--idle-timeout"}},
		"a name that is not valid": {"", []string{"web", "--name", "A b"}, []string{"--name"}},
		"two targets":              {"", []string{"web/web-1", "--target", "web-2"}, []string{"different targets"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New)
			f.Denied[test.denied] = true
			clitest.WantStderr(t, f.Run(append([]string{"session", "create"}, test.words...)...), 1, test.says...)
		})
	}
}

func TestACommandRunsInASession(t *testing.T) {
	f := sessionShop(t)
	f.Remote = func(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		fmt.Fprintf(streams.Stdout, "%q%s", options.Command, options.Shell)
		_, _ = io.WriteString(streams.Stderr, "err")
		return clitest.Exits(7, "")
	}
	got := f.Run("session", "exec", "web-a", "--", "cd", "a b")
	clitest.Want(t, got, 7, `["cd" "a b"]`)
	if got.Stderr != "err" {
		t.Errorf("stderr %q", got.Stderr)
	}
	clitest.Want(t, f.Run("session", "exec", "session/web-a", "--shell", "--", "cd", "/tmp; pwd"), 7, `[]cd /tmp; pwd`)
}

func TestACommandThatASessionDoesNotRun(t *testing.T) {
	tests := map[string]struct {
		denied string
		words  []string
		says   []string
	}{
		"the session has ended": {"", []string{"web-c", "--", "ls"}, []string{"run nothing for 10 minutes; create another"}},
		"it never existed":      {"", []string{"web-d", "--", "ls"}, []string{"Did you mean web-a or web-b?"}},
		"it ended long ago":     {"", []string{"deploy-17", "--", "ls"}, []string{"forgets a session", "Create another"}},
		"no permission": {
			"get live.connpool.dev/sessions/exec",
			[]string{"web-a", "--", "ls"},
			[]string{`resources: ["sessions/exec"]`, "verbs: [create, get]", `resources: ["connectionpools/exec"]`},
		},
		"no command": {"", []string{"web-a"}, []string{"a command is missing"}},
		"no session": {"", []string{"--", "ls"}, []string{"the name of a session is missing"}},
		"no dashes":  {"", []string{"web-a", "ls"}, []string{"write -- before the command"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := sessionShop(t)
			f.Denied[test.denied] = true
			clitest.WantStderr(t, f.Run(append([]string{"session", "exec"}, test.words...)...), exit.NotStarted, test.says...)
		})
	}
}

func TestSessionsAreListed(t *testing.T) {
	f := sessionShop(t)
	clitest.Want(t, f.Run("session", "list"), 0, `
NAME    POOL   TARGET   STATE         OWNER   COMMANDS   LAST-USED   EXPIRES   AGE
web-a   web    web-1    Ready         alice   12         2m          in 40m    20m
web-b   web    web-1    Busy          bob     12         2m          in 40m    20m
web-c   web    web-1    Ended: Idle   alice   12         2m          -         20m
`)
	wide := f.Run("session", "list", "-A", "-o", "wide").Stdout
	for _, word := range []string{"shop", "w-0:app", "alice", "web-1-7", "create another"} {
		if !strings.Contains(wide, word) {
			t.Errorf("there is no %q in\n%s", word, wide)
		}
	}
	clitest.Want(t, f.Run("session", "list", "-o", "name"), 0, "session/web-a\nsession/web-b\nsession/web-c\n")
	clitest.WantStderr(t, f.Run("session", "list", "-n", "empty"), 0, "No sessions in namespace empty.")
	clitest.Want(t, f.Run("session", "list", "pool/web", "--sort-by", ".status.owner", "--no-headers", "-o", "custom-columns=N:.metadata.name"),
		0, "web-a\nweb-c\nweb-b\n")
	clitest.WantStderr(t, f.Run("session", "list", "db"), 0, "No sessions of pool db in namespace shop.")
	clitest.WantStderr(t, f.Run("session", "list", "wob"), 1, `"wob"`, "Did you mean web?")
	f.Sessions[1].Labels = map[string]string{"job": "b"}
	clitest.Want(t, f.Run("session", "list", "-l", "job=b", "-o", "name"), 0, "session/web-b\n")
	clitest.WantStderr(t, f.Run("session", "list", "-l", "="), 1, "--selector")
	f.Denied["list live.connpool.dev/sessions"] = true
	clitest.WantStderr(t, f.Run("session", "list"), 1, `resources: ["sessions"]`, "verbs: [get, list]")
}

func TestSessionsAreDeleted(t *testing.T) {
	f := sessionShop(t)
	clitest.WantStderr(t, f.Run("session", "delete"), 1, "name the sessions to delete, or use --all")
	got := f.Run("session", "delete", "web-x", "session/web-b")
	clitest.Want(t, got, 1, "session/web-b deleted\n")
	clitest.WantStderr(t, got, 1, `there is no session "web-x"`)
	clitest.Want(t, f.Run("session", "delete", "--all"), 0, "session/web-a deleted\n")
	clitest.WantStderr(t, f.Run("session", "delete", "--all"), 0, "No sessions of alice in namespace shop.")
}

func TestSessionsAreCompleted(t *testing.T) {
	for _, words := range [][]string{{"exec", ""}, {"delete", "web-b", "web-"}} {
		got := sessionShop(t).Run(append([]string{"__completeNoDesc", "session"}, words...)...)
		if names, _, _ := strings.Cut(got.Stdout, ":4\n"); names != "web-a\nweb-b\n" {
			t.Errorf("%v: completed %q", words, names)
		}
	}
}

func TestTheContainerThatASessionGotIsSaidUnlessQuiet(t *testing.T) {
	f := clitest.Shop(t, New)
	f.OnlyContainer = "db"
	got := f.Run("session", "create", "web/web-1")
	clitest.Want(t, got, 0, "web-x7k2\n")
	clitest.WantStderr(t, got, 0, "Defaulted container \"db\": it is the only one that runs on \"web-1\"\n")
	for _, flags := range []string{"-q", "-c db"} {
		if got := f.Run(append([]string{"session", "create", "web/web-1"}, strings.Fields(flags)...)...); got.Code != 0 || got.Stderr != "" {
			t.Errorf("%s: %+v", flags, got)
		}
	}
}
