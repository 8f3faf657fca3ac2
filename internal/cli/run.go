package cli

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
)

// maxKeptOutput bounds what is kept of each stream of a target for -o json.
const maxKeptOutput = 1 << 20

// runOptions run one command on many targets.
type runOptions struct {
	*factory
	output    output
	command   remoteCommand
	namespace string
	all       bool
	targets   []string
	selector  string
	parallel  int
	timeout   time.Duration
	failFast  bool
	shell     bool
}

// newRunCommand runs one command on many targets.
func newRunCommand(f *factory) *cobra.Command {
	o := &runOptions{factory: f}
	command := &cobra.Command{
		Use:   "run POOL --all | --target TARGET... | -l SELECTOR -- COMMAND [ARGUMENT...]",
		Short: "Run a command on many targets of a pool at the same time",
		Long: "Run a command on many targets of a pool at the same time. Each line of output is\n" +
			"marked with its target; a table sums up at the end. A target that cannot be\n" +
			"reached is a line of that table and stops no other.\n\n" +
			"The exit code is 0 only if the command completed with 0 on every target.",
		Example: f.examples(
			"on all targets of a pool", "run web --all -- uptime",
			"on some", "run web --target web-1 --target web-2 -- systemctl is-active nginx",
			"on those with a label, one after the other, until one fails", "run web -l tier=front --parallel 1 --fail-fast -- ./deploy",
			"in the container of the same name on every engine", "run ci --all --container web -- nginx -t",
			"for a program", "run web --all -o json -- cat /etc/os-release"),
		ValidArgsFunction:     f.completePools,
		DisableFlagsInUseLine: true,
		RunE:                  runs(o),
	}
	o.output.register(command, outputJSON, outputYAML)
	flags := command.Flags()
	o.command.place.register(flags)
	flags.BoolVar(&o.all, "all", false, "On every target of the pool")
	flags.StringArrayVar(&o.targets, "target", nil, "On this target; may be repeated")
	flags.StringVarP(&o.selector, "selector", "l", "", "On the targets with these labels")
	flags.IntVar(&o.parallel, "parallel", 10, "On at most this many at the same time")
	flags.DurationVar(&o.timeout, "timeout", 0, "End each command after this long, such as 30s; 0 means never")
	flags.BoolVar(&o.failFast, "fail-fast", false, "Start no more after the first failure; what runs may end")
	flags.BoolVar(&o.shell, "shell", false, "Let the remote user's shell interpret the command")
	flags.StringArrayVar(&o.command.env, "env", nil, envUsage)
	completeFlag(command, "target", namesOf(f.listTargets))
	return command
}

func (o *runOptions) complete(command *cobra.Command, args []string) (err error) {
	if err := o.command.read(command, args, o.shell); err != nil {
		return hinted(err, "For example: %s run web --all -- uptime", o.name)
	}
	if o.command.target != "" {
		o.targets = append(o.targets, o.command.target)
	}
	slices.Sort(o.targets)
	o.targets = slices.Compact(o.targets)
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *runOptions) validate() error {
	ways := 0
	for _, given := range []bool{o.all, len(o.targets) > 0, o.selector != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("say on which targets with one of --all, --target and -l")
	case o.command.empty():
		return errors.New("there is no command: write it after --")
	case o.parallel < 1:
		return fmt.Errorf("--parallel %d leaves nothing to run", o.parallel)
	case o.timeout < 0:
		return fmt.Errorf("--timeout %s is negative", o.timeout)
	}
	if _, err := labels.Parse(o.selector); err != nil {
		return fmt.Errorf("-l: %w", err)
	}

	if err := o.command.validate(); err != nil {
		return err
	}
	return o.output.validate()
}

func (o *runOptions) run(ctx context.Context) error {
	if err := o.resolve(ctx); err != nil {
		return err
	}
	live, err := o.live()
	if err != nil {
		return err
	}
	results := o.runAll(ctx, live.Pool(o.namespace, o.command.pool))
	if o.output.machine() {
		err = o.output.encode(o.Out, map[string]any{"results": results})
	} else {
		o.summary(results)
	}
	if err != nil {
		return err
	}
	return o.verdict(ctx, results)
}

// resolve finds the targets. Who names them needs no permission to list them.
func (o *runOptions) resolve(ctx context.Context) error {
	if len(o.targets) > 0 {
		return nil
	}
	members, err := o.members(ctx, o.namespace, o.command.pool)
	if err != nil {
		return err
	}
	selector, err := labels.Parse(o.selector)
	if err != nil {
		return err
	}
	members = slices.DeleteFunc(members, func(t v1alpha1.ConnectionTarget) bool {
		return !selector.Matches(labels.Set(t.Labels))
	})
	if len(members) == 0 {
		return fmt.Errorf("no target of pool %s has the labels %s", o.command.pool, o.selector)
	}
	o.targets = targetNames(members)
	return nil
}

// runResult is what came of one target.
type runResult struct {
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
	Truncated bool                 `json:"truncated,omitempty"`

	err error
}

// reasonSkipped is that of a target whose turn did not come.
const reasonSkipped = "Skipped"

func (r *runResult) ok() bool { return r.err == nil && r.Outcome == livev1alpha1.OutcomeCompleted }

func (o *runOptions) runAll(ctx context.Context, pool *client.Pool) []runResult {
	results := make([]runResult, len(o.targets))
	lines := newLineMixer(o.Out, o.ErrOut, o.targets)
	var failed atomic.Bool
	var group errgroup.Group
	group.SetLimit(o.parallel)
	for i, target := range o.targets {
		group.Go(func() error {
			results[i] = o.turn(ctx, failed.Load(), pool, target, lines)
			if !results[i].ok() {
				failed.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait() // errors are results
	return results
}

// turn runs the command on a target, or skips it.
func (o *runOptions) turn(ctx context.Context, failed bool, pool *client.Pool, target string, lines *lineMixer) runResult {
	if ctx.Err() != nil || failed && o.failFast {
		return skipped(ctx, target)
	}
	return o.runOne(ctx, pool, target, lines)
}

func skipped(ctx context.Context, target string) runResult {
	message := "another target failed before"
	if ctx.Err() != nil {
		message = "interrupted"
	}
	return runResult{
		Target: target, Outcome: livev1alpha1.OutcomeNotStarted, Reason: reasonSkipped, Message: message,
		err: client.ErrNotStarted,
	}
}

func (o *runOptions) runOne(ctx context.Context, pool *client.Pool, target string, lines *lineMixer) runResult {
	command := o.command.forClient()
	command.Target, command.Timeout = target, o.timeout
	if o.output.machine() {
		stdout, stderr := &keeper{}, &keeper{}
		r := runOn(ctx, pool, command, client.Streams{Stdout: stdout, Stderr: stderr})
		r.Stdout, r.Stderr, r.Truncated = stdout.text(), stderr.text(), stdout.truncated || stderr.truncated
		return r
	}
	stdout, stderr := lines.writers(target)
	defer stderr.end()
	defer stdout.end()
	return runOn(ctx, pool, command, client.Streams{Stdout: stdout, Stderr: stderr})
}

// runOn runs one command and says what came of it.
func runOn(ctx context.Context, pool *client.Pool, command client.Command, streams client.Streams) runResult {
	start := time.Now()
	result, err := pool.Stream(ctx, command, streams)
	r := runResult{
		Target: command.Target, Outcome: livev1alpha1.OutcomeCompleted, Signal: result.Signal, Seconds: time.Since(start).Seconds(),
		Acquired: string(result.Acquired), RequestID: result.RequestID, err: err,
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		r.Outcome, r.Reason, r.Message = failed.Outcome, failed.Reason, failed.Message
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

// verdict is the exit code. If nothing ran anywhere for the same reason, such as
// a missing permission, that reason is explained.
func (o *runOptions) verdict(ctx context.Context, results []runResult) error {
	if ctx.Err() != nil {
		return exitWith(exitInterrupted)
	}
	bad := 0
	for i := range results {
		if !results[i].ok() {
			bad++
		}
	}
	if bad == 0 {
		return nil
	}
	if bad == len(results) && results[0].Outcome == livev1alpha1.OutcomeNotStarted {
		o.tellHint(o.explain(ctx, results[0].err, askedToStream("exec", o.namespace, o.command.pool, results[0].Target)))
	}
	return exitWith(1)
}
