package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hosts is a cluster whose targets run different commands.
func hosts(t *testing.T, commands map[string]clitest.RemoteFunc) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, New)
	f.Remote = func(
		ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize,
	) *metav1.Status {
		return commands[options.Target](ctx, options, streams, resize)
	}
	return f
}

// prints returns a command that prints and exits.
func prints(stdout, stderr string, code int) clitest.RemoteFunc {
	return func(_ context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		_, _ = io.WriteString(streams.Stdout, stdout)
		_, _ = io.WriteString(streams.Stderr, stderr)
		return clitest.Exits(code, "")
	}
}

func TestRunMarksLinesAndSumsUp(t *testing.T) {
	f := hosts(t, map[string]clitest.RemoteFunc{"web-1": prints("one\ntwo", "", 0), "web-2": prints("", "broken\n", 3)})
	got := f.Run("run", "web", "--all", "--parallel", "1", "--", "it")
	clitest.Want(t, got, 1, "web-1 | one\nweb-1 | two\n")
	clitest.WantStderr(t, got, 1, "web-2 | broken\n", "✔ web-1    Completed   0 ", "✘ web-2    Completed   3 ", "1 of 2 targets succeeded")
	clitest.Want(t, f.Run("run", "web", "--target", "web-1", "--", "it"), 0, "web-1 | one\nweb-1 | two\n")
	clitest.Want(t, f.Run("run", "web/web-1", "--", "it"), 0, "web-1 | one\nweb-1 | two\n")
	clitest.Want(t, f.Run("run", "db", "-l", "app=web", "--", "it"), 1, "")
	clitest.WantStderr(t, f.Run("run", "web", "-l", "app=db", "--", "it"), 1, "no target of pool web has the labels app=db")
}

func TestALineThatIsNoProgramGetsOneHint(t *testing.T) {
	f := hosts(t, map[string]clitest.RemoteFunc{"web-1": prints("", "", 127), "web-2": prints("", "", 127)})
	got := f.Run("run", "web", "--all", "--", "ls | wc -l")
	clitest.WantStderr(t, got, 1, `note: "ls | wc -l" was taken for the name of one program`)
	if n := strings.Count(got.Stderr, "note:"); n != 1 {
		t.Errorf("%d notes:\n%s", n, got.Stderr)
	}
}

func TestRunForPrograms(t *testing.T) {
	f := hosts(t, map[string]clitest.RemoteFunc{
		"web-1": prints(strings.Repeat("x", maxKeptOutput+1), "err", 0),
		"web-2": func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
			return clitest.Fails(livev1alpha1.OutcomeUnknown, "Unreachable", "The connection broke.")
		},
	})
	var report struct{ Results []result }
	got := f.Run("run", "web", "--all", "-o", "json", "--", "it")
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Code != 1 || len(report.Results) != 2 {
		t.Fatalf("code %d, %v: %.300s", got.Code, err, got.Stdout)
	}
	one, two := report.Results[0], report.Results[1]
	if one.Target != "web-1" || *one.ExitCode != 0 || !one.Truncated || len(one.Stdout) != maxKeptOutput || one.Stderr != "err" {
		t.Errorf("first result %.300s", fmt.Sprintf("%+v", one))
	}
	if two.Outcome != livev1alpha1.OutcomeUnknown || two.Reason != "Unreachable" || two.ExitCode != nil || two.RequestID != "req-7" {
		t.Errorf("second result %+v", two)
	}
}

func TestRunStopsAtTheFirstFailureIfAsked(t *testing.T) {
	f := hosts(t, map[string]clitest.RemoteFunc{"web-1": prints("", "", 1), "web-2": prints("no\n", "", 0)})
	got := f.Run("run", "web", "--all", "--parallel", "1", "--fail-fast", "--", "it")
	clitest.Want(t, got, 1, "")
	clitest.WantStderr(t, got, 1, "- web-2    Skipped     -      - ", " another target failed before\n",
		"0 of 2 targets succeeded, 1 failed, 1 skipped")
}

func TestATargetThatCtrlCSkipsHasNotFailed(t *testing.T) {
	for _, form := range []string{"", "json"} {
		started := make(chan struct{})
		f := hosts(t, map[string]clitest.RemoteFunc{
			"web-1": func(ctx context.Context, _ livev1alpha1.ExecOptions, _ driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				close(started)
				<-ctx.Done()
				return nil
			},
			"web-2": prints("no\n", "", 0),
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-started
			cancel()
		}()
		got := f.RunContext(ctx, nil, "run", "web", "--all", "--parallel", "1", "--output", form, "--", "it")
		clitest.WantStderr(t, got, 130)
		said := got.Stdout + got.Stderr
		for _, want := range map[string][]string{
			"": {
				"✘ web-1    Unknown   -", "Interrupted: the operator was told to end the command",
				"- web-2    Skipped   -      - ", " interrupted before the command started\n", "0 of 2 targets succeeded, 1 failed, 1 skipped",
			},
			"json": {`"reason": "Interrupted"`, `"reason": "Skipped"`},
		}[form] {
			if !strings.Contains(said, want) {
				t.Errorf("it lacks %q:\n%s", want, said)
			}
		}
		if strings.Contains(said, "context") {
			t.Errorf("words of Go:\n%s", said)
		}
	}
}

func TestTheExitCodeIsThatOfTheSignal(t *testing.T) {
	for _, signal := range []*exit.SignalError{{Name: "INT", Code: exit.Interrupted}, {Name: "TERM", Code: exit.Terminated}, {Name: "HUP", Code: exit.HungUp}} {
		ctx, end := context.WithCancelCause(t.Context())
		end(signal)
		var carried strings.Builder
		code := exit.Report(&carried, new(options).failure(ctx, nil), exit.Failed)
		if code != signal.Code || carried.Len() > 0 {
			t.Errorf("SIG%s: exit code %d, want %d, and %q", signal.Name, code, signal.Code, &carried)
		}
	}
}

func TestBytesThatAreNoTextSurvive(t *testing.T) {
	const binary = "\x1f\x8b\x00\xff\xfe"
	cut := strings.Repeat("x", maxKeptOutput-1) + "é"
	f := hosts(t, map[string]clitest.RemoteFunc{"web-1": prints(binary, "text é", 0), "web-2": prints(cut, binary, 0)})
	for _, form := range []string{"json", "yaml"} {
		var report struct{ Results []result }
		got := f.Run("run", "web", "--all", "-o", form, "--", "it")
		if err := yaml.Unmarshal([]byte(got.Stdout), &report); err != nil || len(report.Results) != 2 {
			t.Fatalf("%v: %.300s", err, got.Stdout)
		}
		one, two := report.Results[0], report.Results[1]
		if string(one.StdoutBytes) != binary || one.Stdout != "" || one.Stderr != "text é" || one.StderrBytes != nil {
			t.Errorf("%s: first result %+v", form, one)
		}
		if two.Stdout != cut[:maxKeptOutput-1] || two.StdoutBytes != nil || !two.Truncated || string(two.StderrBytes) != binary {
			t.Errorf("%s: of the second result %d bytes of text, %d others", form, len(two.Stdout), len(two.StdoutBytes))
		}
	}
}

func TestTargetsAreInTheOrderInWhichPeopleCount(t *testing.T) {
	commands := map[string]clitest.RemoteFunc{}
	for _, name := range []string{"farm-10", "farm-2", "farm-1"} {
		commands[name] = prints("", "", 0)
	}
	f := hosts(t, commands)
	f.Targets = []v1alpha1.ConnectionTarget{clitest.Target("farm-1", "web"), clitest.Target("farm-10", "web"), clitest.Target("farm-2", "web")}
	for _, words := range [][]string{{"--all"}, {"--target", "farm-10", "--target", "farm-2", "--target", "farm-1"}} {
		got := f.Run(append(append([]string{"run", "web"}, words...), "--", "it")...)
		if !regexp.MustCompile(`(?s)farm-1 .*farm-2 .*farm-10 `).MatchString(got.Stderr) {
			t.Errorf("%v:\n%s", words, got.Stderr)
		}
	}
}

func TestRunIsBoundedAndParallel(t *testing.T) {
	var running, most atomic.Int32
	both := make(chan struct{})
	wait := func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
		if n := running.Add(1); n == 2 {
			close(both)
		}
		most.Store(max(most.Load(), running.Load()))
		<-both
		running.Add(-1)
		return clitest.Exits(0, "")
	}
	f := hosts(t, map[string]clitest.RemoteFunc{"web-1": wait, "web-2": wait})
	clitest.Want(t, f.Run("run", "web", "--all", "--parallel", "2", "--", "it"), 0, "")
	if most.Load() != 2 {
		t.Errorf("%d at the same time", most.Load())
	}
}

func TestRunExplainsWhatStopsItEverywhere(t *testing.T) {
	f := hosts(t, nil)
	f.Denied["get live.connpool.dev/connectionpools/exec"] = true
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "it"), 1, "Forbidden", `resources: ["connectionpools/exec"]`)
	clitest.WantStderr(t, f.Run("run", "wep", "--all", "--", "it"), 1, "Did you mean web?")
}

func TestRunRefusesToGuessTheTargets(t *testing.T) {
	f := clitest.New(t, New)
	for _, words := range [][]string{
		{"web", "--", "it"},
		{"web", "--all", "--target", "a", "--", "it"},
		{"web", "--all"},
		{"web", "--all", "--parallel", "0", "--", "it"},
		{"web", "-l", "a==b==c", "--", "it"},
	} {
		if got := f.Run(append([]string{"run"}, words...)...); got.Code != 1 || got.Stderr == "" {
			t.Errorf("%q: %+v", words, got)
		}
	}
	if asked := f.Requests(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestRunContinuesWithoutATargetThatIsNotReady(t *testing.T) {
	f := hosts(t, map[string]clitest.RemoteFunc{"web-2": prints("here\n", "", 0)})
	refused := metav1.Status{Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable, Message: "web-1 is not ready"}
	f.Answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectionpools/web/exec"] = func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("target") == "web-1" {
			f.Refuse(out, refused)
			return
		}
		f.ServeExec(out, r, "shop")
	}
	got := f.Run("run", "web", "--all", "--", "it")
	clitest.Want(t, got, 1, "web-2 | here\n")
	clitest.WantStderr(t, got, 1, "✘ web-1    NotStarted", "web-1 is not ready")
}
