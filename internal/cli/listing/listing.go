// Package listing prints what a command through a pool can name: the commands targets,
// containers and pods. They need the right to exec on the pool, and no other.
//
// Trade-off: for programs the answer is a List with a Listing for each target, also if
// there is one target only, so that a script need not know.
package listing

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/places"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
)

type options struct {
	*plugin.Factory
	command remote.Command // without words: the pool and the target
	spec    livev1alpha1.ListingSpec
}

// listings is what is printed for programs.
type listings struct {
	metav1.TypeMeta `json:",inline"`

	Items []*livev1alpha1.Listing `json:"items"`
}

// NewTargets returns the command targets.
func NewTargets(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, spec: livev1alpha1.ListingSpec{Of: livev1alpha1.ListTargets}}
	command := o.newCommand(&cobra.Command{
		Use:   "targets POOL",
		Short: "List the targets of a pool",
		Long:  "List the targets of a pool: the names that can follow the slash in POOL/TARGET.",
		Example: f.Examples(
			"the targets of a pool", "targets web",
			"those with a label, as other commands take them", "targets web -l tier=front -o name"),
		ValidArgsFunction: f.CompletePool,
	})
	command.Flags().StringVarP(&o.spec.Selector, "selector", "l", "", "Only those with these labels")
	return command
}

// NewContainers returns the command containers.
func NewContainers(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, spec: livev1alpha1.ListingSpec{Of: livev1alpha1.ListContainers}}
	command := o.newCommand(&cobra.Command{
		Use:   "containers POOL[/TARGET]",
		Short: "List the containers of Docker engines",
		Long: "List the containers that run on the Docker engines of a pool, or on one of them: the\n" +
			"names that --container takes.",
		Example: f.Examples(
			"those that run on every engine of a pool", "containers ci",
			"all of one engine, also those that have stopped", "containers ci/docker-1 --all",
			"their names, for a script", "containers ci -o name"),
		ValidArgsFunction: f.CompletePoolSlashTarget,
	})
	o.command.RegisterTarget(f, command)
	command.Flags().BoolVar(&o.spec.All, "all", false, "Also list containers that do not run")
	return command
}

// NewPods returns the command pods.
func NewPods(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f, spec: livev1alpha1.ListingSpec{Of: livev1alpha1.ListPods}}
	command := o.newCommand(&cobra.Command{
		Use:   "pods POOL[/TARGET]",
		Short: "List the pods of clusters",
		Long: "List the pods that run on the clusters of a pool, or on one of them, with their\n" +
			"containers: the names that --pod and --container take. The credentials of the target\n" +
			"must be allowed to list pods there.",
		Example: f.Examples(
			"those in the default namespace of the target", "pods cluster",
			"those of a namespace, with a label", "pods cluster --pod-namespace shop -l app=web",
			"those of all namespaces, also if they do not run", "pods cluster -A --all"),
		ValidArgsFunction: f.CompletePoolSlashTarget,
	})
	o.command.RegisterTarget(f, command)
	flags := command.Flags()
	flags.StringVar(&o.spec.Namespace, "pod-namespace", "", "Namespace of the pods; by default, that of the target")
	flags.BoolVarP(&o.spec.AllNamespaces, "all-namespaces", "A", false, "List the pods of all namespaces of the cluster")
	flags.StringVarP(&o.spec.Selector, "selector", "l", "", "Only pods with these labels")
	flags.BoolVar(&o.spec.All, "all", false, "Also list pods that do not run")
	f.CompletePlaces(command)
	return command
}

// newCommand adds what the commands have in common.
func (o *options) newCommand(command *cobra.Command) *cobra.Command {
	command.Args = plugin.Args(1, 1)
	command.RunE = o.LiveE(o.command.ReadPool, o.validate, o.run)
	o.Output.Register(command, plugin.JSON, plugin.YAML, plugin.Name, plugin.Wide)
	return command
}

func (o *options) validate() error {
	if _, err := labels.Parse(o.spec.Selector); err != nil {
		return fmt.Errorf("-l: %w", err)
	}
	switch {
	case o.command.Pool == "":
		return errors.New("the name of the pool is missing")
	case o.spec.Of == livev1alpha1.ListTargets && o.command.Target != "":
		return fmt.Errorf("targets takes a pool: write only its name, %s", o.command.Pool)
	case o.spec.AllNamespaces && o.spec.Namespace != "":
		return errors.New("--pod-namespace and -A cannot be used together")
	}
	o.spec.Target = o.command.Target
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	asked := cluster.AskedToCreate(cluster.Pools+"/exec", o.Namespace, o.command.Pool)
	asked.Target = o.command.Target
	found, err := places.Find(ctx, live.Pool(o.Namespace, o.command.Pool), o.spec)
	if err != nil {
		return o.Cluster.Explain(ctx, err, asked)
	}
	all := listings{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: []*livev1alpha1.Listing{}}
	failed := false
	for _, f := range found {
		if f.Err != nil {
			exit.Print(o.ErrOut, o.Cluster.Explain(ctx, f.Err, asked))
			failed = true
			continue
		}
		f.Listing.Status.Target = cmp.Or(f.Listing.Status.Target, f.Target)
		all.Items = append(all.Items, f.Listing)
	}
	if err := o.print(all); err != nil {
		return err
	}
	if failed {
		return exit.With(exit.Failed)
	}
	return nil
}

func (o *options) print(all listings) error {
	names := o.names(all.Items)
	switch {
	case o.Output.IsMachine():
		if err := o.Output.Encode(o.Out, all); err != nil {
			return err
		}
	case len(names) == 0:
		if len(all.Items) > 0 {
			fmt.Fprintln(o.ErrOut, o.nothing())
		}
		return nil
	case o.Output.Form == plugin.Name:
		for _, name := range names {
			fmt.Fprintln(o.Out, o.prefix()+display.OneLine(name))
		}
	default:
		o.table(all.Items).Write(o.Out)
	}
	for _, listing := range all.Items {
		if listing.Status.Truncated {
			exit.PrintNote(o.ErrOut, "there are more than are shown here")
		}
	}
	return nil
}

// prefix stands before names for -o name. What stands there can be typed for exec.
func (o *options) prefix() string {
	switch o.spec.Of {
	case livev1alpha1.ListContainers:
		return "container/"
	case livev1alpha1.ListPods:
		return "pod/"
	default:
		return o.command.Pool + "/"
	}
}

// nothing says that the list is empty.
func (o *options) nothing() string {
	where := "the targets of pool " + o.command.Pool
	if o.command.Target != "" {
		where = "target " + o.command.Target
	}
	switch {
	case o.spec.Of == livev1alpha1.ListTargets && o.spec.Selector != "":
		return fmt.Sprintf("No target of pool %s has these labels.", o.command.Pool)
	case o.spec.Of == livev1alpha1.ListTargets:
		return fmt.Sprintf("Pool %s has no targets.", o.command.Pool)
	case o.spec.Of == livev1alpha1.ListContainers && o.spec.All:
		return where + " has no containers."
	case o.spec.Of == livev1alpha1.ListContainers:
		return fmt.Sprintf("No container runs on %s. --all also lists stopped ones.", where)
	case o.spec.All:
		return fmt.Sprintf("No pods match on %s.", where)
	default:
		return fmt.Sprintf("No matching pod runs on %s. -A looks in all namespaces, --all also lists pods that are not running.", where)
	}
}
