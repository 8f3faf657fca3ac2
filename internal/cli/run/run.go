// Package run runs one command on many targets of a pool at the same time.
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
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
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
	parallel int
	failFast bool
}

// New returns the command run.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "run POOL --all | --target TARGET... | -l SELECTOR -- COMMAND [ARGUMENT...]",
		Short: "Run a command on many targets of a pool at the same time",
		Long: "Run a command on many targets of a pool at the same time. Each line of output starts\n" +
			"with the name of its target, and a table sums up at the end. A target that cannot be\n" +
			"reached is a line of that table and does not stop the others.\n\n" +
			"The exit code is 0 only if the command exited with 0 on every target.",
		Example: f.Examples(
			"on all targets of a pool", "run web --all -- uptime",
			"on some", "run web --target web-1 --target web-2 -- systemctl is-active nginx",
			"on those with a label, one after the other, until one fails", "run web -l tier=front --parallel 1 --fail-fast -- ./deploy",
			"in the container of the same name on every engine", "run ci --all --container web -- nginx -t",
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
	flags.IntVar(&o.parallel, "parallel", 10, "Run on at most this many targets at the same time")
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
	slices.SortFunc(o.targets, display.NaturalOrder)
	o.targets = slices.Compact(o.targets)
	return nil
}

func (o *options) validate() error {
	given := 0
	for _, is := range []bool{o.all, len(o.targets) > 0, o.selector != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("choose the targets with --all, --target or -l")
	case o.command.IsEmpty():
		return errors.New("there is no command: write it after --")
	case o.parallel < 1:
		return fmt.Errorf("--parallel %d is not valid: use 1 or more", o.parallel)
	}
	var err error
	if o.labels, err = labels.Parse(o.selector); err != nil {
		return fmt.Errorf("-l: %w", err)
	}
	return o.command.Validate()
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	if err := o.resolve(ctx); err != nil {
		return err
	}
	results := o.runAll(ctx, live.Pool(o.Namespace, o.command.Pool))
	if !o.Output.IsMachine() {
		o.summary(results)
	} else if err := o.Output.Encode(o.Out, map[string]any{"results": results}); err != nil {
		return err
	}
	return o.failure(ctx, results)
}

// resolve finds the targets. To name them needs no permission to list them.
func (o *options) resolve(ctx context.Context) error {
	if len(o.targets) > 0 {
		return nil
	}
	members, err := o.Cluster.Members(ctx, o.Namespace, o.command.Pool)
	if err != nil {
		return err
	}
	members = slices.DeleteFunc(members, func(t v1alpha1.ConnectionTarget) bool {
		return !o.labels.Matches(labels.Set(t.Labels))
	})
	if len(members) == 0 {
		return fmt.Errorf("no target of pool %s has the labels %s", o.command.Pool, o.selector)
	}
	o.targets = cluster.Names(members)
	slices.SortFunc(o.targets, display.NaturalOrder)
	return nil
}

type targetResult struct {
	Target    string               `json:"target"`
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
}

// reasonSkipped is the reason of a target whose turn did not come.
const reasonSkipped = "Skipped"

// reasonInterrupted is the reason of a target whose command Ctrl-C has ended.
const reasonInterrupted = "Interrupted"

func (r *targetResult) skipped() bool { return r.Reason == reasonSkipped }

func (r *targetResult) ok() bool { return r.err == nil && r.Outcome == livev1alpha1.OutcomeCompleted }

func (o *options) runAll(ctx context.Context, pool *client.Pool) []targetResult {
	results := make([]targetResult, len(o.targets))
	lines := newLineMixer(o.Out, o.ErrOut, o.targets)
	shown := showProgress(lines, len(o.targets))
	defer shown.stop()
	var failed atomic.Bool
	var group errgroup.Group
	group.SetLimit(o.parallel)
	for i, target := range o.targets {
		group.Go(func() error {
			results[i] = o.turn(ctx, failed.Load(), pool, target, lines)
			if !results[i].ok() {
				failed.Store(true)
			}
			shown.add()
			return nil
		})
	}
	_ = group.Wait() // errors are results
	return results
}

// turn runs the command on a target, or skips the target.
func (o *options) turn(ctx context.Context, failed bool, pool *client.Pool, target string, lines *lineMixer) targetResult {
	if ctx.Err() != nil || failed && o.failFast {
		return skipped(ctx, target)
	}
	r := o.runOne(ctx, pool, target, lines)
	if ctx.Err() != nil && r.Outcome == livev1alpha1.OutcomeNotStarted {
		return skipped(ctx, target)
	}
	return r
}

func skipped(ctx context.Context, target string) targetResult {
	message := "another target failed before"
	if ctx.Err() != nil {
		message = "interrupted before the command started"
	}
	return targetResult{
		Target: target, Outcome: livev1alpha1.OutcomeNotStarted, Reason: reasonSkipped, Message: message,
		err: client.ErrNotStarted,
	}
}

func (o *options) runOne(ctx context.Context, pool *client.Pool, target string, lines *lineMixer) targetResult {
	command := o.command.ForClient()
	command.Target = target
	if o.Output.IsMachine() {
		stdout, stderr := &headBuffer{}, &headBuffer{}
		r := runOn(ctx, pool, command, client.Streams{Stdout: stdout, Stderr: stderr})
		r.Stdout, r.StdoutBytes = stdout.textOrBytes()
		r.Stderr, r.StderrBytes = stderr.textOrBytes()
		r.Truncated = stdout.truncated || stderr.truncated
		return r
	}
	stdout, stderr := lines.writers(target)
	defer stderr.end()
	defer stdout.end()
	return runOn(ctx, pool, command, client.Streams{Stdout: stdout, Stderr: stderr})
}

func runOn(ctx context.Context, pool *client.Pool, command client.Command, streams client.Streams) targetResult {
	start := time.Now()
	result, err := remote.Stream(ctx, pool, command, streams, nil)
	r := targetResult{
		Target: command.Target, Outcome: livev1alpha1.OutcomeCompleted, Signal: result.Signal, Seconds: time.Since(start).Seconds(),
		Acquired: string(result.Acquired), RequestID: result.RequestID, err: err,
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		r.Outcome, r.Reason, r.Message = failed.Outcome, failed.Reason, exit.Words(failed.Message)
		if ctx.Err() != nil && r.Outcome == livev1alpha1.OutcomeUnknown {
			r.Reason = reasonInterrupted
		}
		r.RequestID = cmp.Or(r.RequestID, failed.RequestID)
		return r
	}
	code := result.ExitCode
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		code = exit.Code
	}
	r.ExitCode = &code
	return r
}

// failure returns the error that carries the exit code. If the command started on
// no target, it explains the first reason, such as a missing permission.
func (o *options) failure(ctx context.Context, results []targetResult) error {
	if ctx.Err() != nil {
		return exit.With(exit.Interrupted)
	}
	good := func(r targetResult) bool { return r.ok() }
	ran := slices.DeleteFunc(slices.Clone(results), func(r targetResult) bool { return r.skipped() })
	switch {
	case len(ran) == len(results) && !slices.ContainsFunc(results, func(r targetResult) bool { return !r.ok() }):
		return nil
	case !slices.ContainsFunc(ran, good) && ran[0].Outcome == livev1alpha1.OutcomeNotStarted:
		asked := cluster.AskedToStream("exec", o.Namespace, o.command.Pool, ran[0].Target)
		exit.PrintHint(o.ErrOut, o.Cluster.Explain(ctx, ran[0].err, asked))
	}
	return exit.With(exit.Failed)
}
