package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/driver"
)

// farm is a pool of more targets than have a stream each. All run the same command.
func farm(t *testing.T, command clitest.RemoteFunc) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, New)
	f.Targets = nil
	for i := range maxStreams + 2 {
		f.Targets = append(f.Targets, clitest.Target(fmt.Sprintf("web-%d", i+1), "web"))
	}
	f.Remote = command
	return f
}

// fails fails on one target, and succeeds on others.
func fails(on string) clitest.RemoteFunc {
	return func(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		_, _ = fmt.Fprintf(streams.Stdout, "on %s\nlast", options.Target)
		_, _ = fmt.Fprint(streams.Stderr, "oh\n")
		return clitest.Exits(map[bool]int{true: 3}[options.Target == on], "")
	}
}

// execs counts the requests that run a command, by their methods.
func execs(f *clitest.Fixture) map[string]int {
	counts := map[string]int{}
	for _, request := range f.Requests() {
		if method, path, _ := strings.Cut(request, " "); strings.Contains(path, "/web/exec") {
			counts[method]++
		}
	}
	return counts
}

func TestManyTargetsAreOneRequest(t *testing.T) {
	f := farm(t, fails("web-3"))
	got := f.Run("run", "web", "--all", "--timeout", "90s", "--env", "A=b", "--", "it", "now")
	clitest.WantStderr(t, got, 1, "web-12 | oh\n", "✘ web-3    Completed   3 ", "✔ web-12   Completed   0 ", "11 of 12 targets succeeded, 1 failed")
	if !strings.HasPrefix(got.Stdout, "web-1  | on web-1\nweb-1  | last\nweb-2  | on web-2\n") {
		t.Errorf("printed\n%s", got.Stdout)
	}
	want := livev1alpha1.ExecSpec{
		Command: []string{"it", "now"}, Env: map[string]string{"A": "b"}, TimeoutSeconds: 90,
		Targets: &livev1alpha1.ExecTargets{All: true, OutputBytes: maxKeptOutput},
	}
	if diff := cmp.Diff(want, f.Fleet.Asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// One request finds out that they are many, and one runs the command.
	if diff := cmp.Diff(map[string]int{"POST": 2}, execs(f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFewTargetsHaveAStreamEach(t *testing.T) {
	f := farm(t, fails(""))
	f.Targets = f.Targets[:maxStreams]
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "it"), 0, "10 of 10 targets succeeded")
	if diff := cmp.Diff(map[string]int{"POST": 1, "GET": maxStreams}, execs(f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheUserMaySayWhetherOutputIsLive(t *testing.T) {
	for flag, want := range map[string]map[string]int{"--live": {"GET": 12}, "--live=false": {"POST": 1}} {
		f := farm(t, fails(""))
		clitest.WantStderr(t, f.Run("run", "web", "--all", flag, "--", "it"), 0, "12 of 12 targets succeeded")
		if diff := cmp.Diff(want, execs(f)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", flag, diff)
		}
	}
	clitest.WantStderr(t, farm(t, nil).Run("run", "web", "--all-containers", "--live=false", "--", "it"), 1, "--live=false excludes")
}

func TestACommandThatIsNoTextArrivesAsItIs(t *testing.T) {
	f := farm(t, func(_ context.Context, options livev1alpha1.ExecOptions, _ driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		return clitest.Exits(map[bool]int{false: 3}[options.Command[1] == "\xff"], "")
	})
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "touch", "\xff"), 0, "12 of 12 targets succeeded")
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--live=false", "--", "touch", "\xff"), 1, "not UTF-8", "leave out --live=false")
}

func TestTheTargetsOfAFleet(t *testing.T) {
	names := []string{}
	words := []string{"run", "web"}
	for i := range maxStreams + 1 {
		names = append(names, fmt.Sprintf("web-%d", i+1))
		words = append(words, "--target", names[i])
	}
	tests := map[string]struct {
		words []string
		want  livev1alpha1.ExecTargets
	}{
		"names":    {words, livev1alpha1.ExecTargets{Names: names}},
		"a target": {[]string{"run", "web/web-2", "--live=false"}, livev1alpha1.ExecTargets{Names: []string{"web-2"}}},
		"labels": {[]string{"run", "web", "-l", "app=web"}, livev1alpha1.ExecTargets{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}, MatchExpressions: []metav1.LabelSelectorRequirement{}},
		}},
		"how": {[]string{"run", "web", "--all", "--parallel", "3", "--fail-fast"}, livev1alpha1.ExecTargets{
			All: true, Parallelism: 3, FailFast: true,
		}},
		"as many at once as there can be": {[]string{"run", "web", "--all", "--parallel", "5000"}, livev1alpha1.ExecTargets{
			All: true, Parallelism: livev1alpha1.MaxParallelism,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := farm(t, fails(""))
			clitest.WantStderr(t, f.Run(append(slices.Clone(test.words), "--", "it")...), 0)
			test.want.OutputBytes = maxKeptOutput
			if diff := cmp.Diff(&test.want, f.Fleet.Asked.Targets, cmp.Comparer(sameRequirements)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// sameRequirements takes none for an empty list.
func sameRequirements(a, b []metav1.LabelSelectorRequirement) bool { return len(a) == 0 && len(b) == 0 }

func TestAFleetStopsAtTheFirstFailureIfAsked(t *testing.T) {
	f := farm(t, fails("web-2"))
	got := f.Run("run", "web", "--all", "--fail-fast", "--parallel", "1", "--", "it")
	clitest.WantStderr(t, got, 1, "✘ web-2    Completed   3 ", "- web-3    Skipped     -      - ", " another target failed before\n",
		"1 of 12 targets succeeded, 1 failed, 10 skipped")
}

func TestAnAnswerThatBreaksOffLeavesTheRestUnknown(t *testing.T) {
	f := farm(t, fails(""))
	f.Fleet.BreakAfter = 2
	got := f.Run("run", "web", "--all", "--", "it")
	clitest.WantStderr(t, got, 1, "✔ web-2    Completed   0 ", "✘ web-3    Unknown     -", "the answer broke off before its end",
		"2 of 12 targets succeeded, 10 failed", "note: not all results came; where the command ran: kubectl connpool history web")
	var report struct{ Results []result }
	got = f.Run("run", "web", "--all", "-o", "json", "--", "it")
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Code != 1 || len(report.Results) != 12 {
		t.Fatalf("code %d, %v: %.300s", got.Code, err, got.Stdout)
	}
	for i, r := range report.Results {
		want := map[bool]livev1alpha1.Outcome{true: livev1alpha1.OutcomeCompleted, false: livev1alpha1.OutcomeUnknown}[i < 2]
		if r.Target != fmt.Sprintf("web-%d", i+1) || r.Outcome != want || r.RequestID != "req-9" {
			t.Errorf("result %d: %+v", i, r)
		}
	}
}

func TestAFleetForPrograms(t *testing.T) {
	f := farm(t, func(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		if options.Target == "web-2" {
			return clitest.Fails(livev1alpha1.OutcomeUnknown, "Unreachable", "The connection broke.")
		}
		_, _ = streams.Stdout.Write([]byte("out"))
		return clitest.Exits(0, "")
	})
	var report struct{ Results []result }
	got := f.Run("run", "web", "--all", "-o", "json", "--", "it")
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || got.Code != 1 || len(report.Results) != 12 {
		t.Fatalf("code %d, %v: %.300s", got.Code, err, got.Stdout)
	}
	if one := report.Results[0]; one.Target != "web-1" || *one.ExitCode != 0 || one.Stdout != "out" {
		t.Errorf("first result %+v", one)
	}
	if two := report.Results[1]; two.Outcome != livev1alpha1.OutcomeUnknown || two.Reason != "Unreachable" || two.ExitCode != nil {
		t.Errorf("second result %+v", two)
	}
}

func TestCtrlCSaysWhereTheCommandHadNotBegun(t *testing.T) {
	for name, test := range map[string]struct {
		fleet clitest.Fleet
		want  []string
	}{
		"the operator tells it": {clitest.Fleet{}, []string{
			"✔ web-1    Completed   0 ", "- web-3    Skipped     -", "interrupted before the command started",
		}},
		"an older operator does not": {clitest.Fleet{NoStop: true}, []string{
			"✔ web-1    Completed   0 ", "✘ web-3    Unknown     -",
			"Interrupted: the operator was told to end the command, which may not have begun here",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			f := farm(t, func(ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				if options.Target == "web-2" {
					<-ctx.Done()
				}
				_, _ = streams.Stdout.Write([]byte("done"))
				return clitest.Exits(0, "")
			})
			f.Fleet = test.fleet
			var stderr bytes.Buffer
			streams := genericiooptions.IOStreams{Out: writes(func([]byte) { cancel() }), ErrOut: &stderr}
			code := f.Execute(ctx, streams, "run", "web", "--all", "--", "it")
			clitest.WantStderr(t, clitest.Result{Code: code, Stderr: stderr.String()}, 130, test.want...)
		})
	}
}

// writes is a writer that calls a function.
type writes func([]byte)

func (w writes) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func TestAnOldOperatorGetsAStreamForEachTarget(t *testing.T) {
	f := farm(t, fails(""))
	f.Fleet.Old = true
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "it"), 0, "12 of 12 targets succeeded")
	if diff := cmp.Diff(map[string]int{"POST": 2, "GET": 12}, execs(f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--live=false", "--", "it"), 1, "The operator is older than this program.")
}

func TestAnOperatorThatRunsItOnOneTargetIsNotAskedAgain(t *testing.T) {
	f := farm(t, fails(""))
	f.Fleet.AsOne = true
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--", "it"), 1, "as if the command was for one target", "history web")
	if diff := cmp.Diff(map[string]int{"POST": 2}, execs(f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARefusalOfTheWholeIsExplained(t *testing.T) {
	f := farm(t, fails(""))
	f.Denied["create live.connpool.dev/connectionpools/exec"] = true
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--live=false", "--", "it"), 1, "is forbidden", "verbs: [create]")
	clear(f.Denied)
	clitest.WantStderr(t, f.Run("run", "wep", "--all", "--live=false", "--", "it"), 1, "Did you mean web?")
	f = farm(t, fails(""))
	f.Targets = []v1alpha1.ConnectionTarget{}
	clitest.WantStderr(t, f.Run("run", "web", "--all", "--live=false", "--", "it"), 1, "pool web has no targets")
	clitest.WantStderr(t, f.Run("run", "web", "-l", "app=no", "--live=false", "--", "it"), 1, "no target of pool web has the labels app=no")
}
