package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/natural"
)

// Fleet is how commands on many targets are answered.
type Fleet struct {
	// Old operators do not know them.
	Old bool
	// AsOne answers as if the command was for one target.
	AsOne bool
	// NoStop operators do not know how to stop them.
	NoStop bool
	// BreakAfter breaks the answer off after this many results; 0 for never.
	BreakAfter int
	// Asked is what was asked for last.
	Asked livev1alpha1.ExecSpec

	// stop ends the command that runs.
	stop func()
}

// execMany runs a command on the targets that a request names, one after the other.
func (a *api) execMany(out http.ResponseWriter, r *http.Request, body []byte, namespace, pool string) {
	var asked livev1alpha1.Exec
	if err := json.Unmarshal(body, &asked); err != nil {
		a.t.Error(err)
	}
	if asked.Spec.Targets.Stop {
		a.stopMany(out, &asked)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	a.mu.Lock()
	a.Fleet.Asked, a.Fleet.stop = asked.Spec, stop
	a.mu.Unlock()
	switch {
	case a.Fleet.Old:
		a.Refuse(out, metav1.Status{
			Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: `the body is not an Exec: unknown field "spec.targets"`,
		})
		return
	case a.Fleet.AsOne:
		a.Answer(out, asked)
		return
	}
	names := chosen(asked.Spec.Targets, cluster.TargetsOf(&in(a.Pools, namespace, pool)[0], in(a.Targets, namespace, "")))
	out.Header().Set("Content-Type", livev1alpha1.ExecLines)
	out.Header().Set("Connpool-Request-Id", "req-9")
	a.line(out, "ExecPlan", livev1alpha1.ExecPlan{Targets: names, RequestID: "req-9"})
	hasFailed := false
	for i, name := range names {
		if a.Fleet.BreakAfter > 0 && i == a.Fleet.BreakAfter {
			return
		}
		status := livev1alpha1.ExecStatus{Outcome: livev1alpha1.OutcomeNotStarted, Reason: livev1alpha1.ReasonFailFast}
		switch {
		case ctx.Err() != nil:
			status.Reason = livev1alpha1.ReasonStopped
		case !hasFailed || !asked.Spec.Targets.FailFast:
			status = a.execOn(ctx, name, &asked.Spec)
		}
		hasFailed = hasFailed || status.ExitCode == nil || *status.ExitCode != 0
		a.line(out, "ExecResult", livev1alpha1.ExecResult{Target: name, Status: status})
	}
	a.line(out, "ExecSummary", livev1alpha1.ExecSummary{Targets: int32(len(names)), RequestID: "req-9"})
}

// stopMany ends the command that runs.
func (a *api) stopMany(out http.ResponseWriter, asked *livev1alpha1.Exec) {
	if a.Fleet.NoStop {
		a.Refuse(out, metav1.Status{
			Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: `the body is not an Exec: unknown field "spec.targets.stop"`,
		})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Fleet.stop()
	a.Answer(out, asked)
}

func chosen(targets *livev1alpha1.ExecTargets, members []v1alpha1.ConnectionTarget) []string {
	names := slices.Clone(targets.Names)
	selector := labels.Everything()
	if targets.Selector != nil {
		selector, _ = metav1.LabelSelectorAsSelector(targets.Selector)
	}
	for i := range members {
		if len(targets.Names) == 0 && selector.Matches(labels.Set(members[i].Labels)) {
			names = append(names, members[i].Name)
		}
	}
	slices.SortFunc(names, natural.Compare)
	return names
}

// line sends a line of an answer, at once.
func (a *api) line(out http.ResponseWriter, kind string, object any) {
	text, err := json.Marshal(object)
	if err != nil {
		a.t.Error(err)
	}
	_, _ = fmt.Fprintf(out, `{"kind":%q,%s`+"\n", kind, bytes.TrimPrefix(text, []byte("{")))
	_ = http.NewResponseController(out).Flush()
}

// execOn runs the command on one target.
func (a *api) execOn(ctx context.Context, target string, spec *livev1alpha1.ExecSpec) livev1alpha1.ExecStatus {
	var stdout, stderr bytes.Buffer
	options := livev1alpha1.ExecOptions{Target: target, Command: spec.Command, Shell: spec.Shell, Container: spec.Container}
	end := a.Remote(ctx, options, driver.Streams{Stdout: &stdout, Stderr: &stderr}, nil)
	status := livev1alpha1.ExecStatus{
		Outcome: livev1alpha1.OutcomeUnknown, Target: target, RequestID: "req-9", Stdout: stdout.String(), Stderr: stderr.String(),
	}
	if end == nil {
		return status
	}
	causes := map[metav1.CauseType]string{}
	if end.Details != nil {
		for _, cause := range end.Details.Causes {
			causes[cause.Type] = cause.Message
		}
	}
	status.Outcome, status.Reason = livev1alpha1.Outcome(causes[livev1alpha1.CauseOutcome]), causes[livev1alpha1.CauseReason]
	if status.Outcome == livev1alpha1.OutcomeCompleted {
		code, _ := strconv.ParseInt(causes["ExitCode"], 10, 32) // 0 without one
		status.ExitCode = new(int32(code))
	} else {
		status.Message = end.Message
	}
	return status
}
