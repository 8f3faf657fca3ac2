// Package check dials targets once and explains what happens, stage by stage.
//
// The operator dials, beside the target's pools, and the answer says for each
// stage what was found, how long it took and, where it failed, what to do.
//
// Trade-off: the targets of a pool are checked a few at a time, so that a check of
// a large pool is not a burst of handshakes.
package check

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
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// parallelChecks bounds how many targets of a pool are checked at the same time.
// The operator bounds handshakes further.
const parallelChecks = 8

type options struct {
	*plugin.Factory
	targets []string
	pool    string
}

// New returns the command check.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "check TARGET... | --pool POOL",
		Short: "Dial a target once, and explain each stage",
		Long: "Dial a target once, apart from its pools, and explain each stage: what was found,\n" +
			"how long it took and, if it failed, what to do. Pools are not disturbed; a pool that\n" +
			"had given up on the target tries again if the check succeeds.\n\n" +
			"The exit code is 1 if a target is not ready.",
		Example: f.Examples(
			"one target", "check web-1",
			"all targets of a pool", "check --pool web"),
		ValidArgsFunction: func(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return f.CompleteTarget(command, nil, typed) // any target, as often as there are arguments
		},
		RunE: f.LiveE(o.complete, o.validate, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	command.Flags().StringVar(&o.pool, "pool", "", "Check all targets of this pool")
	plugin.CompleteFlag(command, "pool", f.CompletePool)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	for _, arg := range args {
		o.targets = append(o.targets, cluster.TargetName(arg))
	}
	return nil
}

func (o *options) validate() error {
	if (len(o.targets) == 0) == (o.pool == "") {
		return errors.New("name either targets or a pool with --pool")
	}
	return nil
}

type checked struct {
	Target string                    `json:"target"`
	Status *livev1alpha1.CheckStatus `json:"status,omitempty"`
	Error  string                    `json:"error,omitempty"`
	err    error
}

func (c checked) ready() bool { return c.err == nil && c.Status.Ready }

func (o *options) run(ctx context.Context, live *client.Client) error {
	if o.pool != "" {
		members, err := o.Cluster.Members(ctx, o.Namespace, o.pool)
		if err != nil {
			return err
		}
		o.targets = cluster.Names(members)
	}
	results := o.checkAll(ctx, live)
	if o.Output.IsMachine() {
		if err := o.Output.Encode(o.Out, map[string]any{"checks": results}); err != nil {
			return err
		}
	} else {
		printChecks(o.Out, results)
	}
	return o.failure(ctx, results)
}

func (o *options) checkAll(ctx context.Context, live *client.Client) []checked {
	results := make([]checked, len(o.targets))
	var group errgroup.Group
	group.SetLimit(parallelChecks)
	for i, target := range o.targets {
		group.Go(func() error {
			results[i] = checked{Target: target}
			check, err := live.Check(ctx, o.Namespace, target)
			if err != nil {
				results[i].err, results[i].Error = err, err.Error()
			} else {
				results[i].Status = &check.Status
			}
			return nil
		})
	}
	_ = group.Wait() // errors are results
	return results
}

// failure carries the exit code. It explains the first error only: they are alike.
func (o *options) failure(ctx context.Context, results []checked) error {
	if i := slices.IndexFunc(results, func(c checked) bool { return c.err != nil }); i >= 0 {
		asked := cluster.AskedToCreate(cluster.Targets+"/check", o.Namespace, results[i].Target)
		exit.PrintHint(o.ErrOut, o.Cluster.Explain(ctx, results[i].err, asked))
	}
	if slices.ContainsFunc(results, func(c checked) bool { return !c.ready() }) {
		return exit.With(exit.Failed)
	}
	return nil
}

func printChecks(out io.Writer, results []checked) {
	p := display.PaintFor(out)
	for i := range results {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printCheck(out, p, &results[i])
	}
}

func printCheck(out io.Writer, p display.Paint, c *checked) {
	if c.err != nil {
		fmt.Fprintf(out, "%s %s: %s\n", p.Mark(false), display.OneLine(c.Target), display.OneLine(c.Error))
		return
	}
	word := p.In(display.Red, "not ready")
	if c.Status.Ready {
		word = p.In(display.Green, "ready")
	}
	fmt.Fprintf(out, "%s is %s%s\n", display.OneLine(c.Target), word, about(c.Status))
	for _, stage := range c.Status.Stages {
		printStage(out, p, &stage)
	}
}

func about(status *livev1alpha1.CheckStatus) string {
	text := ""
	if status.RemoteAddress != "" {
		text = " at " + display.OneLine(status.RemoteAddress)
	}
	if status.ServerVersion != "" {
		text += " (" + display.OneLine(status.ServerVersion) + ")"
	}
	return text
}

func printStage(out io.Writer, p display.Paint, stage *livev1alpha1.CheckStage) {
	message := display.OneLine(stage.Message)
	if stage.Reason != "" {
		message = display.OneLine(stage.Reason) + ": " + message
	}
	line := fmt.Sprintf("  %s %-16s %8s  %s",
		p.Mark(stage.Passed), display.OneLine(stage.Name), display.Micros(stage.DurationMicroseconds), message)
	fmt.Fprintln(out, strings.TrimRight(line, " "))
}
