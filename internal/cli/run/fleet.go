package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/run/lines"
)

// maxStreams is on how many targets the command has a stream of its own, unless the user
// says otherwise. On more, the operator runs it with one request.
const maxStreams = 10

// isFleet reports whether the operator is to run the command on all targets with one request.
// That is quicker on many; a stream for each prints lines while the command runs.
func (o *options) isFleet(ctx context.Context, pool *client.Pool) bool {
	command := o.command.ForClient()
	switch {
	case !command.IsText() && !o.isLiveSet: // one request would be of JSON
		return false
	case o.listed != nil, o.isLiveSet && o.live:
		return false
	case o.isLiveSet:
		return true
	case !o.isSelectable():
		return false
	case len(o.targets) > 0:
		return len(o.targets) > maxStreams
	}
	listing, err := pool.List(ctx, livev1alpha1.ListingSpec{Of: livev1alpha1.ListTargets, Selector: o.selector, Limit: maxStreams + 1})
	return err == nil && len(listing.Status.Targets) > maxStreams // an error comes again, and is explained then
}

// isSelectable reports whether the operator can select the targets by their labels.
func (o *options) isSelectable() bool {
	_, err := metav1.ParseToLabelSelector(o.selector)
	return err == nil
}

// fleet is a command that the operator runs on many targets.
type fleet struct {
	*options

	interrupted func() bool
	mixer       *lines.Mixer
	shown       *lines.Progress
	results     []result
	// place is where the result of a target stands.
	place map[string]int
}

// runFleet runs the command with one request. If the operator is too old for that, nothing
// was started, and the error is client.IsTargetsUnsupported.
func (o *options) runFleet(ctx context.Context, pool *client.Pool) ([]result, error) {
	command := o.command.ForClient()
	command.Target = ""
	f := &fleet{options: o, interrupted: func() bool { return ctx.Err() != nil }}
	targets, err := f.targets()
	if err != nil {
		return nil, err
	}
	err = pool.Run(ctx, command, targets, f.take)
	if f.shown != nil {
		f.shown.Stop()
	}
	switch {
	case f.results != nil && len(f.results) == 0:
		_, err = o.inOrder(nil)
		return nil, err
	case f.results != nil:
		o.noteUnknown(err)
		return f.results, nil
	case errors.Is(err, client.ErrNotStarted):
		return nil, err
	}
	err = exit.Hint(err, "Find out on which targets before you run it again: %s history %s", o.Name, o.command.Pool)
	if ctx.Err() != nil {
		return nil, exit.WithError(exit.SignalOf(ctx).Code, err)
	}
	return nil, err
}

// noteUnknown says what to do if an answer broke off. The error itself is in the results that
// it concerns.
func (o *options) noteUnknown(err error) {
	if err != nil && !o.Output.IsMachine() {
		exit.PrintNote(o.ErrOut, fmt.Sprintf("not all results came; where the command ran: %s history %s", o.Name, o.command.Pool))
	}
}

// targets returns which targets there are, and how the command runs on them.
func (f *fleet) targets() (client.Targets, error) {
	targets := client.Targets{
		All: f.selector == "" && len(f.options.targets) == 0, Names: f.options.targets, FailFast: f.failFast,
		Parallelism: min(f.parallel, livev1alpha1.MaxParallelism), OutputBytes: maxKeptOutput, Planned: f.plan,
	}
	if f.selector == "" {
		return targets, nil
	}
	var err error
	if targets.Selector, err = metav1.ParseToLabelSelector(f.selector); err != nil {
		return targets, exit.Hint(fmt.Errorf("-l: %w", err), "With --live it works: %s run %s --live ...", f.Name, f.command.Pool)
	}
	return targets, nil
}

// plan makes room for the results.
func (f *fleet) plan(names []string) {
	f.results, f.place = make([]result, len(names)), make(map[string]int, len(names))
	for i, name := range names {
		f.place[name] = i
	}
	f.mixer = lines.NewMixer(f.Out, f.ErrOut, names)
	f.shown = lines.ShowProgress(f.mixer, len(names))
}

// take prints what the command has written on a target, and keeps its result.
func (f *fleet) take(end client.TargetResult) {
	r := resultOf(end, f.interrupted()).in(place{target: end.Target, Place: f.command.Place})
	if f.Output.IsMachine() {
		r.Stdout, r.StdoutBytes = (&headBuffer{truncated: end.Truncated}).with(end.Stdout).textOrBytes()
		r.Stderr, r.StderrBytes = (&headBuffer{truncated: end.Truncated}).with(end.Stderr).textOrBytes()
	} else {
		f.print(end)
	}
	f.results[f.place[end.Target]] = r
	f.shown.Add()
}

func (f *fleet) print(end client.TargetResult) {
	stdout, stderr := f.mixer.Writers(end.Target)
	remote.NoteContainer(stderr, end.Target, end.Container)
	_, _ = stdout.Write(end.Stdout)
	stdout.End()
	_, _ = stderr.Write(end.Stderr)
	stderr.End()
}

// resultOf returns how the command ended on a target.
func resultOf(end client.TargetResult, interrupted bool) result {
	r := result{
		Outcome: livev1alpha1.OutcomeCompleted, Signal: end.Signal, Seconds: (end.Wait + end.Duration).Seconds(), Container: end.Container,
		Acquired: string(end.Acquired), RequestID: end.RequestID, Truncated: end.Truncated, err: end.Err,
	}
	failed, ok := errors.AsType[*client.Error](end.Err)
	if !ok {
		r.ExitCode = &end.ExitCode
		return r
	}
	r.Outcome, r.Reason, r.Message = failed.Outcome, failed.Reason, exit.Words(failed.Message)
	r.RequestID = cmp.Or(r.RequestID, failed.RequestID)
	switch {
	case failed.Reason == livev1alpha1.ReasonFailFast:
		r.Reason, r.Message = reasonSkipped, "another target failed before"
	case failed.Reason == livev1alpha1.ReasonStopped && r.Outcome == livev1alpha1.OutcomeNotStarted:
		r.Reason, r.Message = reasonSkipped, "interrupted before the command started"
	case failed.Reason == livev1alpha1.ReasonStopped:
		r.Reason, r.Message = reasonInterrupted, "the operator was told to end the command while it ran"
	case interrupted && r.Outcome == livev1alpha1.OutcomeUnknown:
		r.Reason, r.Message = reasonInterrupted, "the operator was told to end the command, which may not have begun here"
	}
	return r
}

// explainRefusal explains that the operator refused the whole.
func (o *options) explainRefusal(ctx context.Context, err error) error {
	return o.Cluster.Explain(ctx, err, cluster.AskedToCreate(cluster.Pools+"/exec", o.Namespace, o.command.Pool))
}
