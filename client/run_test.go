package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// lines answers with lines. A line "cut" ends the connection.
func lines(w http.ResponseWriter, kind string, all ...string) {
	w.Header().Set("Content-Type", kind)
	for _, line := range all {
		if line == "cut" {
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprintln(w, line)
		_ = http.NewResponseController(w).Flush()
	}
}

const (
	planLine    = `{"kind":"ExecPlan","targets":["a","b"],"parallelism":2,"requestID":"r"}`
	resultA     = `{"kind":"ExecResult","target":"a","status":{"outcome":"Completed","exitCode":0,"stdout":"hi","container":"c"}}`
	resultB     = `{"kind":"ExecResult","target":"b","status":{"outcome":"NotStarted","reason":"Unreachable","message":"no way"}}`
	resultC     = `{"kind":"ExecResult","target":"c","status":{"outcome":"Completed","exitCode":0}}`
	summaryLine = `{"kind":"ExecSummary","targets":2,"completed":1,"notStarted":1,"unknown":0,"durationMicroseconds":5,"requestID":"r"}`
)

func TestEveryPlannedTargetHasOneResult(t *testing.T) {
	const unknown = ": unknown"
	tests := map[string]struct {
		lines []string
		want  []string
		err   error
	}{
		"all lines":                     {[]string{planLine, resultA, resultB, summaryLine}, []string{"a: 0 hi c", "b: not started Unreachable"}, nil},
		"in another order":              {[]string{planLine, resultB, resultA, summaryLine}, []string{"b: not started Unreachable", "a: 0 hi c"}, nil},
		"a line of a newer operator":    {[]string{planLine, `{"kind":"Progress"}`, resultA, resultB, summaryLine}, []string{"a: 0 hi c", "b: not started Unreachable"}, nil},
		"no summary":                    {[]string{planLine, resultA, resultB}, []string{"a: 0 hi c", "b: not started Unreachable"}, ErrUnknown},
		"cut between lines":             {[]string{planLine, resultA, "cut"}, []string{"a: 0 hi c", "b" + unknown}, ErrUnknown},
		"cut in a line":                 {[]string{planLine, resultA[:40], "cut"}, []string{"a" + unknown, "b" + unknown}, ErrUnknown},
		"a summary that comes too soon": {[]string{planLine, resultB, summaryLine}, []string{"b: not started Unreachable", "a" + unknown}, ErrUnknown},
		"a target that was not planned": {[]string{planLine, resultC, resultA}, []string{"a" + unknown, "b" + unknown}, ErrUnknown},
		"two results of a target":       {[]string{planLine, resultA, resultA}, []string{"a: 0 hi c", "b" + unknown}, ErrUnknown},
		"no plan":                       {[]string{resultA, summaryLine}, nil, ErrUnknown},
		"nothing":                       {nil, nil, ErrUnknown},
		"no JSON":                       {[]string{planLine, "it works"}, []string{"a" + unknown, "b" + unknown}, ErrUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, true, func(w http.ResponseWriter, r *http.Request) {
				if asked := readExec(r).Spec; !asked.Targets.All || asked.Targets.Parallelism != 7 || asked.Command[0] != "it" {
					t.Errorf("asked for %+v", asked)
				}
				lines(w, live.ExecLines, test.lines...)
			})
			var got, planned []string
			err := w.pool(t).Run(t.Context(), Command{Argv: []string{"it"}},
				Targets{All: true, Parallelism: 7, Planned: func(names []string) { planned = names }},
				func(r TargetResult) { got = append(got, wordsOfResult(t, r)) })
			if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("error %v, results (-want +got):\n%s", err, diff)
			}
			if test.want != nil && strings.Join(planned, " ") != "a b" {
				t.Errorf("planned %v", planned)
			}
		})
	}
}

func wordsOfResult(t *testing.T, r TargetResult) string {
	t.Helper()
	var failed *Error
	switch {
	case r.Err == nil:
		return fmt.Sprintf("%s: %d %s %s", r.Target, r.ExitCode, r.Stdout, r.Container)
	case errors.As(r.Err, &failed) && errors.Is(r.Err, ErrNotStarted):
		return r.Target + ": not started " + failed.Reason
	case r.RequestID != "r":
		t.Errorf("the result of %s lacks the request ID: %+v", r.Target, r)
	}
	return r.Target + ": unknown"
}

func TestARunThatIsRefusedHasNoResults(t *testing.T) {
	tests := map[string]struct {
		answer func(http.ResponseWriter)
		err    error
		isOld  bool
	}{
		"forbidden": {func(w http.ResponseWriter) {
			answer(w, http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden, "no"))
		}, ErrNotStarted, false},
		"an operator that does not know targets": {func(w http.ResponseWriter) {
			answer(w, http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, `unknown field "spec.targets"`))
		}, ErrNotStarted, true},
		"an operator that runs it on one target": {func(w http.ResponseWriter) { answer(w, http.StatusOK, live.Exec{}) }, ErrUnknown, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			requests := 0
			w := newFixture(t, true, func(w http.ResponseWriter, r *http.Request) {
				discard(r)
				requests++
				test.answer(w)
			})
			err := w.pool(t).Run(t.Context(), Command{Argv: []string{"it"}}, Targets{All: true}, func(r TargetResult) { t.Errorf("result %+v", r) })
			wantError(t, err, test.err)
			if IsTargetsUnsupported(err) != test.isOld || requests != 1 {
				t.Errorf("after %d requests: %v", requests, err)
			}
		})
	}
}

func TestARunOfWhatIsNoTextIsNotSent(t *testing.T) {
	w := newFixture(t, true, func(http.ResponseWriter, *http.Request) { t.Error("was asked") })
	err := w.pool(t).Run(t.Context(), Command{Argv: []string{"\xff"}}, Targets{All: true}, func(r TargetResult) { t.Errorf("result %+v", r) })
	wantError(t, err, ErrNotStarted)
}

func TestARunThatIsCanceledIsStopped(t *testing.T) {
	const stoppedB = `{"kind":"ExecResult","target":"b","status":{"outcome":"NotStarted","reason":"Stopped","message":"not begun"}}`
	tests := map[string]struct {
		// stop answers the request to stop, and rest are the lines that follow then.
		stop func(http.ResponseWriter)
		rest []string
		want string
		err  error
	}{
		"and says where it had not begun": {
			stop: func(w http.ResponseWriter) { _, _ = fmt.Fprintln(w, "{}") }, rest: []string{stoppedB, summaryLine}, want: "b: not started Stopped",
		},
		"and leaves the rest unknown with an older operator": {
			stop: func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) }, want: "b: unknown", err: ErrUnknown,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stopped := make(chan struct{})
			w := newFixture(t, true, func(w http.ResponseWriter, r *http.Request) {
				if asked := readExec(r).Spec; asked.Targets.Stop {
					if asked.RequestID != "r" || len(asked.Command) > 0 {
						t.Errorf("asked to stop %+v", asked)
					}
					test.stop(w)
					close(stopped)
					return
				}
				w.Header().Set("Connpool-Request-Id", "r")
				lines(w, live.ExecLines, planLine, resultA)
				<-stopped
				lines(w, live.ExecLines, test.rest...)
				if test.rest == nil {
					<-r.Context().Done()
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			var got []string
			err := w.pool(t).Run(ctx, Command{Argv: []string{"it"}}, Targets{All: true}, func(r TargetResult) {
				got = append(got, wordsOfResult(t, r))
				cancel()
			})
			if test.err == nil && err != nil {
				t.Errorf("error %v", err)
			}
			if test.err != nil {
				if e := wantError(t, err, test.err); e.Message != "the caller has canceled it" {
					t.Errorf("message %q", e.Message)
				}
			}
			if diff := cmp.Diff([]string{"a: 0 hi c", test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
