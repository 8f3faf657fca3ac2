package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// remoteFunc is the other end of a command.
type remoteFunc = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status

// exits is how a stream tells that the command ended.
func exits(code int, signal string) *metav1.Status {
	causes := []metav1.StatusCause{{Type: livev1alpha1.CauseOutcome, Message: string(livev1alpha1.OutcomeCompleted)}}
	status := &metav1.Status{Status: metav1.StatusSuccess}
	if code != 0 {
		status = &metav1.Status{Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: "command terminated"}
		causes = append(causes, metav1.StatusCause{Type: "ExitCode", Message: strconv.Itoa(code)})
	}
	if signal != "" {
		causes = append(causes, metav1.StatusCause{Type: livev1alpha1.CauseSignal, Message: signal})
	}
	status.Details = &metav1.StatusDetails{Causes: causes}
	return status
}

// fails is how a stream tells that there is no exit code.
func fails(outcome livev1alpha1.Outcome, reason, message string) *metav1.Status {
	return &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: message,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
			{Type: livev1alpha1.CauseOutcome, Message: string(outcome)},
			{Type: livev1alpha1.CauseReason, Message: reason},
			{Type: livev1alpha1.CauseRequestID, Message: "req-7"},
		}},
	}
}

// echo prints its arguments and copies its input.
func echo(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	fmt.Fprintf(streams.Stdout, "%s%s%q%s%v\n", options.Target, placeIn(options), options.Command, options.Shell, options.Env)
	if streams.Stdin != nil {
		_, _ = io.Copy(streams.Stdout, streams.Stdin)
	}
	fmt.Fprint(streams.Stderr, "done\x1b[0m\n")
	return exits(0, "")
}

// placeIn is where in the target a command runs; nothing on a host.
func placeIn(options livev1alpha1.ExecOptions) string {
	if options.Container == "" && options.Pod == "" {
		return ""
	}
	return fmt.Sprintf("(%s/%s/%s)", options.Namespace, options.Pod, options.Container)
}

func TestExecPassesArgumentsAndStreamsOn(t *testing.T) {
	tests := map[string]struct {
		words []string
		stdin string
		want  string
	}{
		"arguments as given":          {[]string{"web", "--", "ls", "-l", "a b"}, "", `["ls" "-l" "a b"][]` + "\n"},
		"a target behind a slash":     {[]string{"web/web-1", "--", "id"}, "", `web-1["id"][]` + "\n"},
		"a target in a flag":          {[]string{"web", "--target", "web-2", "--", "id"}, "", `web-2["id"][]` + "\n"},
		"a line for the shell":        {[]string{"web", "--shell", "--", "ls", "| wc"}, "", `[]ls | wc[]` + "\n"},
		"in a container":              {[]string{"web", "-c", "app", "--", "ps"}, "", `(//app)["ps"][]` + "\n"},
		"in a pod":                    {[]string{"web", "--pod", "w-0", "--", "ps"}, "", `(/w-0/)["ps"][]` + "\n"},
		"in a pod's container":        {[]string{"web", "--pod", "w-0", "--pod-namespace", "n", "--container", "app", "--", "ps"}, "", `(n/w-0/app)["ps"][]` + "\n"},
		"variables":                   {[]string{"web", "--env", "A=1", "--env", "B=x=y", "--", "env"}, "", `["env"][A=1 B=x=y]` + "\n"},
		"input if asked for":          {[]string{"web", "-i", "--", "cat"}, "in", `["cat"][]` + "\nin"},
		"no input if not asked for":   {[]string{"web", "--", "cat"}, "in", `["cat"][]` + "\n"},
		"no terminal, so no terminal": {[]string{"web", "-it", "--", "cat"}, "in", `["cat"][]` + "\nin"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := shop(t)
			w.remote = echo
			got := w.with(strings.NewReader(test.stdin), append([]string{"exec"}, test.words...)...)
			want(t, got, 0, test.want)
			wantStderr(t, got, 0, "done\x1b[0m\n")
		})
	}
}

func TestExecAsksForNothingButTheCommand(t *testing.T) {
	w := shop(t)
	w.remote = echo
	w.connpool("exec", "web", "--", "id")
	if asked := w.requests(); len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		end  *metav1.Status
		code int
		says string
	}{
		"success":                  {exits(0, ""), 0, ""},
		"the command's own":        {exits(7, ""), 7, ""},
		"one that looks like ours": {exits(254, ""), 254, ""},
		"a signal":                 {exits(137, "KILL"), 137, ""},
		"it did not start": {
			fails(livev1alpha1.OutcomeNotStarted, "SessionLimit", "The server refuses one more session."), 254, "not started",
		},
		"nobody knows": {
			fails(livev1alpha1.OutcomeUnknown, "Unreachable", "The connection broke."), 255, "(request req-7)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := shop(t)
			w.remote = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
				return test.end
			}
			got := w.connpool("exec", "web", "--", "it")
			wantStderr(t, got, test.code, test.says)
			if test.says == "" && got.stderr != "" {
				t.Errorf("said %q", got.stderr)
			}
			if quiet := w.connpool("exec", "-q", "web", "--", "it"); quiet.code != test.code || quiet.stderr != "" {
				t.Errorf("quietly: %+v", quiet)
			}
		})
	}
}

func TestCommandsThatAreRefusedDidNotStart(t *testing.T) {
	tests := map[string]struct {
		denied string
		words  []string
		says   []string
	}{
		"no permission": {
			"get live.connpool.dev/connectionpools/exec",
			[]string{"web", "--", "id"},
			[]string{`resources: ["connectionpools/exec"]`, `resourceNames: ["web"]`, "verbs: [create, get]"},
		},
		"no such pool":             {"", []string{"wbe", "--", "id"}, []string{"Did you mean web?"}},
		"no such target":           {"", []string{"web/web-9", "--", "id"}, []string{"Did you mean web-1 or web-2?"}},
		"no command":               {"", []string{"web"}, []string{"there is no command"}},
		"no pool":                  {"", []string{"--", "id"}, []string{"which pool?"}},
		"no dashes":                {"", []string{"web", "id"}, []string{"write -- before the command"}},
		"two targets":              {"", []string{"web/web-1", "--target", "web-2", "--", "id"}, []string{"different targets"}},
		"a variable without value": {"", []string{"web", "--env", "A", "--", "id"}, []string{"NAME=value"}},
		"a flag that is not there": {"", []string{"web", "--tree", "--", "id"}, []string{"--tree"}},
		"too many words":           {"", append([]string{"web", "--"}, make([]string, 1025)...), []string{"at most 1024"}},
		"too long a line":          {"", []string{"web", "--", strings.Repeat("x", 128<<10+1)}, []string{"at most 131072"}},
		"a namespace without pod":  {"", []string{"web", "--pod-namespace", "n", "--", "id"}, []string{"name the pod with --pod"}},
		"a pod with a namespace":   {"", []string{"web", "--pod", "n/w-0", "--", "id"}, []string{"--pod-namespace"}},
		"a negative timeout":       {"", []string{"web", "--timeout", "-1s", "--", "id"}, []string{"negative"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := shop(t)
			w.denied[test.denied] = true
			wantStderr(t, w.connpool(append([]string{"exec"}, test.words...)...), exitNotStarted, test.says...)
		})
	}
}

func TestCtrlCEndsTheRemoteCommand(t *testing.T) {
	w := shop(t)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan struct{})
	w.remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(ended)
		fmt.Fprintln(streams.Stdout, "begun")
		interrupt()
		<-ctx.Done()
		return fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	got := w.during(ctx, nil, "exec", "web", "--", "sleep", "1000")
	wantStderr(t, got, exitInterrupted, "interrupted", "told to end")
	<-ended
}

func TestATimeoutEndsTheRemoteCommand(t *testing.T) {
	w := shop(t)
	ended := make(chan struct{})
	w.remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, _ driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(ended)
		<-ctx.Done()
		return fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	wantStderr(t, w.connpool("exec", "web", "--timeout", "20ms", "--", "sleep", "1000"), exitUnknown, "timeout")
	<-ended
}

// hosts runs something else on each target.
func hosts(t *testing.T, commands map[string]remoteFunc) *world {
	t.Helper()
	w := shop(t)
	w.remote = func(
		ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize,
	) *metav1.Status {
		return commands[options.Target](ctx, options, streams, resize)
	}
	return w
}

// prints makes a command that prints and exits.
func prints(stdout, stderr string, code int) remoteFunc {
	return func(_ context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		_, _ = io.WriteString(streams.Stdout, stdout)
		_, _ = io.WriteString(streams.Stderr, stderr)
		return exits(code, "")
	}
}

func TestRunMarksLinesAndSumsUp(t *testing.T) {
	w := hosts(t, map[string]remoteFunc{"web-1": prints("one\ntwo", "", 0), "web-2": prints("", "broken\n", 3)})
	got := w.connpool("run", "web", "--all", "--parallel", "1", "--", "it")
	want(t, got, 1, "web-1 | one\nweb-1 | two\n")
	wantStderr(t, got, 1, "web-2 | broken\n", "✔ web-1    Completed   0 ", "✘ web-2    Completed   3 ", "1 of 2 targets succeeded")
	want(t, w.connpool("run", "web", "--target", "web-1", "--", "it"), 0, "web-1 | one\nweb-1 | two\n")
	want(t, w.connpool("run", "web/web-1", "--", "it"), 0, "web-1 | one\nweb-1 | two\n")
	want(t, w.connpool("run", "db", "-l", "app=web", "--", "it"), 1, "")
	wantStderr(t, w.connpool("run", "web", "-l", "app=db", "--", "it"), 1, "no target of pool web has the labels app=db")
}

func TestRunForPrograms(t *testing.T) {
	w := hosts(t, map[string]remoteFunc{
		"web-1": prints(strings.Repeat("x", maxKeptOutput+1), "err", 0),
		"web-2": func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
			return fails(livev1alpha1.OutcomeUnknown, "Unreachable", "The connection broke.")
		},
	})
	var report struct{ Results []runResult }
	got := w.connpool("run", "web", "--all", "-o", "json", "--", "it")
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.code != 1 || len(report.Results) != 2 {
		t.Fatalf("code %d, %v: %.300s", got.code, err, got.stdout)
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
	w := hosts(t, map[string]remoteFunc{"web-1": prints("", "", 1), "web-2": prints("no\n", "", 0)})
	got := w.connpool("run", "web", "--all", "--parallel", "1", "--fail-fast", "--", "it")
	want(t, got, 1, "")
	wantStderr(t, got, 1, "NotStarted", "Skipped: another target failed before")
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
		return exits(0, "")
	}
	w := hosts(t, map[string]remoteFunc{"web-1": wait, "web-2": wait})
	want(t, w.connpool("run", "web", "--all", "--parallel", "2", "--", "it"), 0, "")
	if most.Load() != 2 {
		t.Errorf("%d at the same time", most.Load())
	}
}

func TestRunExplainsWhatStopsItEverywhere(t *testing.T) {
	w := hosts(t, nil)
	w.denied["get live.connpool.dev/connectionpools/exec"] = true
	wantStderr(t, w.connpool("run", "web", "--all", "--", "it"), 1, "Forbidden", `resources: ["connectionpools/exec"]`)
	wantStderr(t, w.connpool("run", "wep", "--all", "--", "it"), 1, "Did you mean web?")
}

func TestRunNeedsToKnowWhere(t *testing.T) {
	w := newWorld(t)
	for _, words := range [][]string{
		{"web", "--", "it"},
		{"web", "--all", "--target", "a", "--", "it"},
		{"web", "--all"},
		{"web", "--all", "--parallel", "0", "--", "it"},
		{"web", "-l", "a==b==c", "--", "it"},
	} {
		if got := w.connpool(append([]string{"run"}, words...)...); got.code != 1 || got.stderr == "" {
			t.Errorf("%q: %+v", words, got)
		}
	}
	if asked := w.requests(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestRunGoesOnWithoutATargetThatIsAway(t *testing.T) {
	w := hosts(t, map[string]remoteFunc{"web-2": prints("here\n", "", 0)})
	refused := metav1.Status{Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable, Message: "web-1 is not ready"}
	w.answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectionpools/web/exec"] = func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("target") == "web-1" {
			w.refuse(out, refused)
			return
		}
		w.exec(out, r, "shop")
	}
	got := w.connpool("run", "web", "--all", "--", "it")
	want(t, got, 1, "web-2 | here\n")
	wantStderr(t, got, 1, "✘ web-1    NotStarted", "web-1 is not ready")
}

func TestLinesOfTargetsAreNeverMixed(t *testing.T) {
	var out bytes.Buffer
	mixer := newLineMixer(&out, io.Discard, []string{"a", "long"})
	a, _ := mixer.writers("a")
	long, _ := mixer.writers("long")
	for _, step := range []struct {
		to   *lineWriter
		text string
	}{{a, "be"}, {long, "1\n2\n3"}, {a, "gun\n\n"}, {a, strings.Repeat("x", maxLine)}} {
		if n, err := io.WriteString(step.to, step.text); n != len(step.text) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	a.end()
	long.end()
	want := "long | 1\nlong | 2\na    | begun\na    | \na    | " + strings.Repeat("x", maxLine) + "\nlong | 3\n"
	if out.String() != want {
		t.Errorf("printed %.200q", out.String())
	}
}
