package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Targets are the targets of a Run. Exactly one of All, Names and Selector is set.
type Targets struct {
	// All targets of the pool.
	All bool
	// Names of targets.
	Names []string
	// Selector selects those of the pool whose labels match.
	Selector *metav1.LabelSelector
	// Parallelism is on how many of them the command runs at the same time. 0 leaves that to
	// the operator.
	Parallelism int
	// FailFast starts the command on no more targets after it has failed on one.
	FailFast bool
	// OutputBytes is how much is kept of each of stdout and stderr of each target, at most 1
	// MiB. 0 leaves that to the operator.
	OutputBytes int
	// Planned is called once, before any result, with the names of the targets in the order
	// in which the command starts on them. May be nil.
	Planned func(names []string)
}

// TargetResult is how the command ended on one target.
type TargetResult struct {
	Result

	// Err is the error that Exec would return.
	Err error
}

// errBrokenOff means that an answer ended before its summary.
var errBrokenOff = errors.New("the answer broke off before its end")

// errNoLines means that the operator has taken the command for one on a single target.
var errNoLines = errors.New("the operator answered as if the command was for one target, and may have run it on one")

// Run runs a command on many targets of the pool, on each at most once, with one request. It
// calls each with the result of every planned target, one after the other, as they come, and
// once for each target. The command names no Target, and has no Subsystem; its Timeout bounds
// the command of each target, and its RequestID is remembered for each of them.
//
// The error is nil if all results have come, also of commands that failed. If the request
// was refused, it is ErrNotStarted, and there are no results. If the answer breaks off, it
// is ErrUnknown, and the results of the targets of which nothing was said are ErrUnknown, too.
//
// When ctx ends, the operator is asked to end the command, and its answer is read for another
// 5 s at most: it says on which targets the command had not begun, which are ErrNotStarted.
func (p *Pool) Run(ctx context.Context, command Command, targets Targets, each func(TargetResult)) error {
	u, err := p.url("exec")
	if err != nil {
		return notStarted(err)
	}
	exec, err := command.exec()
	if err != nil {
		return notStarted(err)
	}
	exec.Spec.Targets = &live.ExecTargets{
		All: targets.All, Names: targets.Names, Selector: targets.Selector,
		Parallelism: int32(targets.Parallelism), FailFast: targets.FailFast, OutputBytes: int32(targets.OutputBytes),
	}
	reading, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	keep := context.AfterFunc(ctx, func() { cut(ctx.Err()) })
	response, failed := p.client.send(reading, http.MethodPost, u, exec)
	if failed != nil {
		return failed
	}
	defer response.Body.Close()
	if keep() { // it has begun: from now on it is stopped rather than cut
		defer context.AfterFunc(ctx, func() { p.stop(reading, u, response.Header.Get("Connpool-Request-Id"), cut) })()
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != live.ExecLines {
		return unknown(errNoLines)
	}
	a := &runAnswer{body: &io.LimitedReader{R: response.Body}, planned: targets.Planned, each: each}
	if err := a.read(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		failed := unknown(err)
		failed.RequestID = a.requestID
		a.leave(failed)
		return failed
	}
	return nil
}

// stopPatience is how long the operator may take for the rest of an answer after ctx has ended.
const stopPatience = 5 * time.Second

// stop asks the operator to end a command on many targets, whose answer it cuts if that is
// refused, as by an older operator, or does not end in time.
func (p *Pool) stop(reading context.Context, u *url.URL, requestID string, cut context.CancelCauseFunc) {
	defer cut(nil)
	ctx, cancel := context.WithTimeout(reading, stopPatience)
	defer cancel()
	exec := &live.Exec{
		TypeMeta: typeMeta("Exec"),
		Spec:     live.ExecSpec{RequestID: requestID, Targets: &live.ExecTargets{Stop: true}},
	}
	response, failed := p.client.send(ctx, http.MethodPost, u, exec)
	if failed != nil {
		return
	}
	_ = response.Body.Close()
	<-ctx.Done() // the answer has ended, or takes too long
}

// IsTargetsUnsupported reports whether Run failed because the operator is older than
// commands on many targets. Nothing was started then.
func IsTargetsUnsupported(err error) bool {
	return errors.Is(err, ErrNotStarted) && apierrors.IsBadRequest(err) && strings.Contains(err.Error(), `unknown field "spec.targets"`)
}

// runAnswer is the answer to a Run while it is read.
type runAnswer struct {
	body    *io.LimitedReader
	planned func([]string)
	each    func(TargetResult)

	requestID string
	// waiting are the targets without a result, in their order.
	waiting []string
}

// read reads the lines to the summary.
func (a *runAnswer) read() error {
	lines := json.NewDecoder(a.body)
	var plan live.ExecPlan
	if kind, err := a.next(lines, &plan); err != nil || kind != "ExecPlan" {
		return brokenAt(kind, err)
	}
	a.requestID, a.waiting = plan.RequestID, slices.Clone(plan.Targets)
	if a.planned != nil {
		a.planned(plan.Targets)
	}
	for {
		var result live.ExecResult
		kind, err := a.next(lines, &result)
		switch {
		case err != nil:
			return err
		case kind == "ExecSummary" && len(a.waiting) > 0:
			return fmt.Errorf("%w: it lacks the results of %d targets", errBrokenOff, len(a.waiting))
		case kind == "ExecSummary":
			return nil
		case kind != "ExecResult":
			continue // of a newer operator
		}
		if err := a.take(&result); err != nil {
			return err
		}
	}
}

// brokenAt returns why the first line is no plan.
func brokenAt(kind string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: it begins with a line of the kind %q", errBrokenOff, kind)
}

// next reads a line, into an object if it is of that kind, and returns its kind.
func (a *runAnswer) next(lines *json.Decoder, into any) (kind string, err error) {
	a.body.N = maxAnswerBytes
	var line json.RawMessage
	if err := lines.Decode(&line); err != nil {
		return "", fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	var of metav1.TypeMeta
	if err := json.Unmarshal(line, &of); err != nil {
		return "", fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	if of.Kind != "ExecPlan" && of.Kind != "ExecResult" {
		return of.Kind, nil
	}
	return of.Kind, json.Unmarshal(line, into)
}

// take passes a result on. Each planned target has one.
func (a *runAnswer) take(result *live.ExecResult) error {
	i := slices.Index(a.waiting, result.Target)
	if i < 0 {
		return fmt.Errorf("%w: it has a result of %q, which was not planned, or has one already", errBrokenOff, result.Target)
	}
	a.waiting = slices.Delete(a.waiting, i, i+1)
	r, err := execResult(&result.Status)
	r.Target = result.Target
	a.each(TargetResult{Result: r, Err: err})
	return nil
}

// leave passes the results on of the targets of which nothing was said.
func (a *runAnswer) leave(failed *Error) {
	for _, target := range a.waiting {
		a.each(TargetResult{Result: Result{ExitCode: -1, Target: target, RequestID: failed.RequestID}, Err: failed})
	}
	a.waiting = nil
}
