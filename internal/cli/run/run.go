// Package run runs one command on many targets of a pool at the same time, or in many
// containers or pods of them.
//
// On a few targets each has a stream of its own; on many, the operator runs the command with
// one request, and each target's output comes when it is done.
//
// For people it prints each line of output marked with its target, as it comes,
// and a table at the end. For programs it collects the beginning of each stream
// and prints one document.
//
// The exit code is 0 only if the command completed with 0 on every target. A
// target that fails stops no other target, unless --fail-fast asks for it.
//
// Trade-off: the exit codes of the targets are in the output only, because one
// exit code cannot carry them all.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/run/lines"
	"github.com/connpool/connpool/internal/natural"
)

// The flags whose absence means something.
const (
	parallel = "parallel"
	live     = "live"
)

// maxKeptOutput bounds what -o json keeps of each stream of a target, in bytes.
const maxKeptOutput = 1 << 20

type options struct {
	*plugin.Factory
	command  remote.Command
	all      bool
	targets  []string
	selector string
	labels   labels.Selector // what selector says
	parallel int             // 0 if the user does not say it
	failFast bool
	// live gives the command a stream on each target; isLiveSet if the user says whether.
	live, isLiveSet bool

	allContainers bool
	podSelector   string
	// listed is what the targets are asked for; nil if the command runs on themselves.
	listed *livev1alpha1.ListingSpec
}

// New returns the command run.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use: "run POOL [--all | --target TARGET... | -l SELECTOR] [--all-containers | --pod-selector SELECTOR]" +
			" -- COMMAND [ARGUMENT...]",
		Short: "Run a command on many targets of a pool at the same time",
		Long: "Run a command on many targets of a pool at the same time. Each line of output starts\n" +
			"with the name of its target, and a table sums up at the end. A target that cannot be\n" +
			"reached is a line of that table and does not stop the others.\n\n" +
			"With --all-containers it runs in each container that runs on those targets, and with\n" +
			"--pod-selector in each pod that runs there and has the labels; both mean all targets\n" +
			"unless you say which.\n\n" +
			"The exit code is 0 only if the command exited with 0 everywhere.",
		Example: f.Examples(
			"on all targets of a pool", "run web --all -- uptime",
			"on some", "run web --target web-1 --target web-2 -- systemctl is-active nginx",
			"on those with a label, one after the other, until one fails", "run web -l tier=front --parallel 1 --fail-fast -- ./deploy",
			"in the container of the same name on every engine", "run ci --all --container web -- nginx -t",
			"in every container that runs on any engine", "run ci --all-containers -- cat /etc/os-release",
			"in a container of every pod with a label", "run prod --pod-selector app=web --pod-namespace shop -c app -- nginx -t",
			"for a program", "run web --all -o json -- cat /etc/os-release"),
		ValidArgsFunction:     f.CompletePool,
		DisableFlagsInUseLine: true,
		RunE:                  f.LiveE(o.complete, o.validate, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	flags := command.Flags()
	o.command.Place.Register(flags)
	flags.BoolVar(&o.all, "all", false, "Run on every target of the pool")
	flags.StringArrayVar(&o.targets, "target", nil, "Run on this target; may be repeated")
	flags.StringVarP(&o.selector, "selector", "l", "", "Run on the targets with these labels")
	flags.BoolVar(&o.allContainers, "all-containers", false, "Run in each container that runs on the targets, which are Docker engines")
	flags.StringVar(&o.podSelector, podSelector, "", "Run in each pod that runs on the targets, which are clusters, and has these labels")
	flags.IntVar(&o.parallel, parallel, 0,
		"Run on at most this many targets at the same time; by default 10, or with --live=false 128")
	flags.BoolVar(&o.live, live, false, "Print output while the commands run, and all of it, over a stream for each target; "+
		"the default on at most 10 targets. On more, output comes when a target is done, up to 1 MiB")
	flags.DurationVar(&o.command.Timeout, "timeout", 0, "End each command after this long, such as 30s; 0 means never")
	flags.BoolVar(&o.failFast, "fail-fast", false, "Start no more commands after the first failure; those that run may finish")
	flags.BoolVar(&o.command.Shell, "shell", false, "Let the remote user's shell interpret the command")
	flags.StringArrayVar(&o.command.Env, "env", nil, remote.EnvUsage)
	plugin.CompleteFlag(command, "target", f.CompleteTarget)
	f.CompletePlaces(command)
	return command
}

func (o *options) complete(command *cobra.Command, args []string) error {
	if err := o.command.Read(command, args); err != nil {
		return exit.Hint(err, "For example: %s run web --all -- uptime", o.Name)
	}
	if o.command.Target != "" {
		o.targets = append(o.targets, o.command.Target)
	}
	slices.SortFunc(o.targets, natural.Compare)
	o.targets = slices.Compact(o.targets)
	if o.parallel < 1 && command.Flags().Changed(parallel) {
		return fmt.Errorf("--parallel %d is not valid: use 1 or more", o.parallel)
	}
	o.isLiveSet = command.Flags().Changed(live)
	return o.completeListed(command)
}

func (o *options) validate() error {
	given := 0
	for _, is := range []bool{o.all, len(o.targets) > 0, o.selector != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1, given == 0 && o.listed == nil:
		return errors.New("choose the targets with --all, --target or -l")
	case o.command.IsEmpty():
		return errors.New("there is no command: write it after --")
	case o.isLiveSet && !o.live && o.listed != nil:
		return errors.New("--live=false excludes --all-containers and --pod-selector, which give each place a stream")
	}
	var err error
	if o.labels, err = labels.Parse(o.selector); err != nil {
		return fmt.Errorf("-l: %w", err)
	}
	if err := o.validateListed(); err != nil {
		return err
	}
	return o.command.Validate()
}

func (o *options) run(ctx context.Context, to *client.Client) error {
	results, err := o.results(ctx, to.Pool(o.Namespace, o.command.Pool))
	if err != nil {
		return err
	}
	if !o.Output.IsMachine() {
		o.summary(results)
	} else if err := o.Output.Encode(o.Out, map[string]any{"results": results}); err != nil {
		return err
	}
	return o.failure(ctx, results)
}

// results runs the command everywhere.
func (o *options) results(ctx context.Context, pool *client.Pool) ([]result, error) {
	if o.isFleet(ctx, pool) {
		results, err := o.runFleet(ctx, pool)
		switch {
		case errors.Is(err, client.ErrNoText):
			return nil, exit.Hint(err, "A stream takes any bytes: leave out --live=false.")
		case client.IsTargetsUnsupported(err) && o.isLiveSet:
			return nil, exit.Hint(err, "The operator is older than this program. Leave out --live=false, or upgrade the operator.")
		case errors.Is(err, client.ErrNotStarted) && !client.IsTargetsUnsupported(err):
			return nil, o.explainRefusal(ctx, err)
		case !client.IsTargetsUnsupported(err):
			return results, err
		}
	}
	places, err := o.resolve(ctx, pool)
	if err != nil {
		return nil, err
	}
	return o.runAll(ctx, pool, places), nil
}

// result is how the command ended in one place.
type result struct {
	Target string `json:"target"`
	// Namespace of the pod.
	Namespace string               `json:"namespace,omitempty"`
	Pod       string               `json:"pod,omitempty"`
	Container string               `json:"container,omitempty"`
	Outcome   livev1alpha1.Outcome `json:"outcome"`
	ExitCode  *int                 `json:"exitCode,omitempty"`
	Signal    string               `json:"signal,omitempty"`
	Reason    string               `json:"reason,omitempty"`
	Message   string               `json:"message,omitempty"`
	Seconds   float64              `json:"seconds"`
	Acquired  string               `json:"acquired,omitempty"`
	RequestID string               `json:"requestID,omitempty"`
	Stdout    string               `json:"stdout,omitempty"`
	Stderr    string               `json:"stderr,omitempty"`
	// StdoutBytes and StderrBytes are in place of Stdout and Stderr if that is no text.
	StdoutBytes []byte `json:"stdoutBytes,omitempty"`
	StderrBytes []byte `json:"stderrBytes,omitempty"`
	Truncated   bool   `json:"truncated,omitempty"`

	err error
	// name of the place.
	name string
	// isUnlisted says that it is not known what runs on the target.
	isUnlisted bool
}

// reasonSkipped is the reason of a target whose turn did not come.
const reasonSkipped = "Skipped"

// reasonInterrupted is the reason of a target whose command Ctrl-C has ended.
const reasonInterrupted = "Interrupted"

func (r *result) skipped() bool { return r.Reason == reasonSkipped }

func (r *result) ok() bool { return r.err == nil && r.Outcome == livev1alpha1.OutcomeCompleted }

func (o *options) runAll(ctx context.Context, pool *client.Pool, places []place) []result {
	results := make([]result, len(places))
	mixer := lines.NewMixer(o.Out, o.ErrOut, namesOf(places))
	shown := lines.ShowProgress(mixer, len(places))
	defer shown.Stop()
	var failed atomic.Bool
	var group errgroup.Group
	group.SetLimit(cmp.Or(o.parallel, maxStreams))
	for i, p := range places {
		group.Go(func() error {
			results[i] = o.turn(ctx, failed.Load(), pool, p, mixer).in(p)
			if !results[i].ok() {
				failed.Store(true)
			}
			shown.Add()
			return nil
		})
	}
	_ = group.Wait() // errors are results
	return results
}

// turn runs the command in a place, or skips the place.
func (o *options) turn(ctx context.Context, failed bool, pool *client.Pool, p place, mixer *lines.Mixer) result {
	switch {
	case ctx.Err() != nil || failed && o.failFast:
		return o.skipped(ctx)
	case p.err != nil:
		return unlisted(p.err)
	}
	r := o.runOne(ctx, pool, p, mixer)
	if ctx.Err() != nil && r.Outcome == livev1alpha1.OutcomeNotStarted {
		return o.skipped(ctx)
	}
	return r
}

func (o *options) skipped(ctx context.Context) result {
	one, _ := o.unit()
	message := "another " + one + " failed before"
	if ctx.Err() != nil {
		message = "interrupted before the command started"
	}
	return result{
		Outcome: livev1alpha1.OutcomeNotStarted, Reason: reasonSkipped, Message: message, err: client.ErrNotStarted,
	}
}

func (o *options) runOne(ctx context.Context, pool *client.Pool, p place, mixer *lines.Mixer) result {
	command := o.command
	command.Target, command.Place = p.target, p.Place
	if o.Output.IsMachine() {
		stdout, stderr := &headBuffer{}, &headBuffer{}
		r := runIn(ctx, pool, command.ForClient(), client.Streams{Stdout: stdout, Stderr: stderr}, nil)
		r.Stdout, r.StdoutBytes = stdout.textOrBytes()
		r.Stderr, r.StderrBytes = stderr.textOrBytes()
		r.Truncated = stdout.truncated || stderr.truncated
		return r
	}
	stdout, stderr := mixer.Writers(p.name())
	defer stderr.End()
	defer stdout.End()
	_, notes := mixer.Writers(p.name()) // apart from what the command writes at the same time
	return runIn(ctx, pool, command.ForClient(), client.Streams{Stdout: stdout, Stderr: stderr}, notes)
}

func runIn(ctx context.Context, pool *client.Pool, command client.Command, streams client.Streams, notes io.Writer) result {
	start := time.Now()
	end, err := remote.Stream(ctx, pool, command, streams, notes)
	r := result{
		Outcome: livev1alpha1.OutcomeCompleted, Signal: end.Signal, Seconds: time.Since(start).Seconds(),
		Container: end.Container, Acquired: string(end.Acquired), RequestID: end.RequestID, err: err,
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		r.Outcome, r.Reason, r.Message = failed.Outcome, failed.Reason, exit.Words(failed.Message)
		if ctx.Err() != nil && r.Outcome == livev1alpha1.OutcomeUnknown {
			r.Reason = reasonInterrupted
		}
		r.RequestID = cmp.Or(r.RequestID, failed.RequestID)
		return r
	}
	code := end.ExitCode
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		code = exit.Code
	}
	r.ExitCode = &code
	return r
}

// failure returns the error that carries the exit code. If the command started
// nowhere, it explains the first reason, such as a missing permission.
func (o *options) failure(ctx context.Context, results []result) error {
	if ctx.Err() != nil {
		return exit.With(exit.SignalOf(ctx).Code)
	}
	good := func(r result) bool { return r.ok() }
	ran := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.skipped() })
	switch {
	case len(ran) == len(results) && !slices.ContainsFunc(results, func(r result) bool { return !r.ok() }):
		return nil
	case !slices.ContainsFunc(ran, good) && ran[0].Outcome == livev1alpha1.OutcomeNotStarted:
		asked := cluster.AskedToStream("exec", o.Namespace, o.command.Pool, ran[0].Target)
		exit.PrintHint(o.ErrOut, o.Cluster.Explain(ctx, ran[0].err, asked))
	}
	return exit.With(exit.Failed)
}
