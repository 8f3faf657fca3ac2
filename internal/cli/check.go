package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// parallelChecks bounds how many targets of a pool are checked at the same time.
// The operator bounds handshakes further.
const parallelChecks = 8

// checkOptions dial targets and explain what happens.
type checkOptions struct {
	*factory
	output    output
	namespace string
	targets   []string
	pool      string
}

// newCheckCommand dials targets and explains what happens.
func newCheckCommand(f *factory) *cobra.Command {
	o := &checkOptions{factory: f}
	command := &cobra.Command{
		Use:   "check TARGET... | --pool POOL",
		Short: "Dial a target once, and explain each stage",
		Long: "Dial a target once beside its pools, and explain each stage: what was found, how\n" +
			"long it took and, where it fails, what to do. Pools are not disturbed; one that\n" +
			"had given up on the target tries again if the check succeeds.\n\n" +
			"The exit code is 1 if a target is not ready.",
		Example: f.examples(
			"one target", "check web-1",
			"all targets of a pool", "check --pool web"),
		ValidArgsFunction: f.completeTargets,
		RunE:              runs(o),
	}
	o.output.register(command, outputJSON, outputYAML)
	command.Flags().StringVar(&o.pool, "pool", "", "Check all targets of this pool")
	completeFlag(command, "pool", namesOf(f.listPools))
	return command
}

func (o *checkOptions) complete(_ *cobra.Command, args []string) (err error) {
	o.targets = args
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *checkOptions) validate() error {
	if (len(o.targets) == 0) == (o.pool == "") {
		return errors.New("name either targets or a pool with --pool")
	}
	return o.output.validate()
}

// checked is what came of one target.
type checked struct {
	Target string                    `json:"target"`
	Status *livev1alpha1.CheckStatus `json:"status,omitempty"`
	Error  string                    `json:"error,omitempty"`
	err    error
}

func (c checked) ready() bool { return c.err == nil && c.Status.Ready }

func (o *checkOptions) run(ctx context.Context) error {
	if o.pool != "" {
		members, err := o.members(ctx, o.namespace, o.pool)
		if err != nil {
			return err
		}
		o.targets = targetNames(members)
	}
	results, err := o.checkAll(ctx)
	if err != nil {
		return err
	}
	if o.output.machine() {
		if err := o.output.encode(o.Out, map[string]any{"checks": results}); err != nil {
			return err
		}
	} else {
		printChecks(o.Out, results)
	}
	return o.verdict(ctx, results)
}

func (o *checkOptions) checkAll(ctx context.Context) ([]checked, error) {
	live, err := o.live()
	if err != nil {
		return nil, err
	}
	results := make([]checked, len(o.targets))
	var group errgroup.Group
	group.SetLimit(parallelChecks)
	for i, target := range o.targets {
		group.Go(func() error {
			results[i] = checked{Target: target}
			check, err := live.Check(ctx, o.namespace, target)
			if err != nil {
				results[i].err, results[i].Error = err, err.Error()
			} else {
				results[i].Status = &check.Status
			}
			return nil
		})
	}
	_ = group.Wait() // errors are results
	return results, nil
}

// verdict is the exit code. Of errors, one is explained: they are alike.
func (o *checkOptions) verdict(ctx context.Context, results []checked) error {
	if i := slices.IndexFunc(results, func(c checked) bool { return c.err != nil }); i >= 0 {
		o.tellHint(o.explain(ctx, results[i].err, askedToCreate(targets+"/check", o.namespace, results[i].Target)))
	}
	if slices.ContainsFunc(results, func(c checked) bool { return !c.ready() }) {
		return exitWith(1)
	}
	return nil
}

func printChecks(out io.Writer, results []checked) {
	p := paintFor(out)
	for i := range results {
		if i > 0 {
			fmt.Fprintln(out)
		}
		p.check(out, &results[i])
	}
}

// check explains one target stage by stage.
func (p paint) check(out io.Writer, c *checked) {
	if c.err != nil {
		fmt.Fprintf(out, "%s %s: %s\n", p.mark(false), oneLine(c.Target), oneLine(c.Error))
		return
	}
	verdict := p.in(red, "not ready")
	if c.Status.Ready {
		verdict = p.in(green, "ready")
	}
	fmt.Fprintf(out, "%s is %s%s\n", oneLine(c.Target), verdict, about(c.Status))
	for _, stage := range c.Status.Stages {
		p.stage(out, &stage)
	}
}

// about tells what was reached.
func about(status *livev1alpha1.CheckStatus) string {
	text := ""
	if status.RemoteAddress != "" {
		text = " at " + oneLine(status.RemoteAddress)
	}
	if status.ServerVersion != "" {
		text += " (" + oneLine(status.ServerVersion) + ")"
	}
	return text
}

func (p paint) stage(out io.Writer, stage *livev1alpha1.CheckStage) {
	message := oneLine(stage.Message)
	if stage.Reason != "" {
		message = oneLine(stage.Reason) + ": " + message
	}
	line := fmt.Sprintf("  %s %-16s %8s  %s", p.mark(stage.Passed), oneLine(stage.Name), micros(stage.DurationMicroseconds), message)
	fmt.Fprintln(out, strings.TrimRight(line, " "))
}
