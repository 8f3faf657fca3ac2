package plugin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
)

// completionTimeout bounds how long a Tab may take.
const completionTimeout = 2 * time.Second

// Names makes a completion of a list of names that is read again at each Tab. If
// the list cannot be read, nothing is offered: errors would spoil the line that
// the user is typing.
func Names(list func(ctx context.Context, args []string) ([]string, error)) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
		defer cancel()
		names, err := list(ctx, args)
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		fits := slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, typed) })
		return fits, cobra.ShellCompDirectiveNoFileComp
	}
}

// LiveNames makes a completion of names that the live API has in the namespace.
func (f *Factory) LiveNames(list func(context.Context, *client.Client, string) ([]string, error)) cobra.CompletionFunc {
	return Names(func(ctx context.Context, _ []string) ([]string, error) {
		live, err := f.Cluster.Live(ctx)
		if err != nil {
			return nil, err
		}
		namespace, err := f.Cluster.Namespace()
		if err != nil {
			return nil, err
		}
		return list(ctx, live, namespace)
	})
}

// Once completes the first argument only.
func Once(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(command, args, typed)
	}
}

// CompleteFlag completes the value of a flag that a command has.
func CompleteFlag(command *cobra.Command, flag string, complete cobra.CompletionFunc) {
	// It fails only for a flag that does not exist, which a test would see.
	_ = command.RegisterFlagCompletionFunc(flag, complete)
}

// CompletePool completes one pool.
func (f *Factory) CompletePool(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return Once(Names(f.listPools))(command, args, typed)
}

// CompletePoolSlashTarget completes POOL and, once the slash is typed, POOL/TARGET.
func (f *Factory) CompletePoolSlashTarget(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	pool, _, slash := strings.Cut(typed, "/")
	if !slash {
		return f.CompletePool(command, args, typed)
	}
	return Once(Names(func(ctx context.Context, _ []string) ([]string, error) {
		names, err := f.listTargets(ctx, []string{pool})
		for i, name := range names {
			names[i] = pool + "/" + name
		}
		return names, err
	}))(command, args, typed)
}

// CompleteTarget completes a target of the pool that is the first argument, or any.
func (f *Factory) CompleteTarget(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return Names(f.listTargets)(command, args, typed)
}

func (f *Factory) listPools(ctx context.Context, _ []string) ([]string, error) {
	objects, namespace, err := f.namespaced()
	if err != nil {
		return nil, err
	}
	all, err := objects.Pools(ctx, namespace)
	return cluster.Names(all), err
}

// namespaced returns a client and the namespace to ask for.
func (f *Factory) namespaced() (objects cluster.Objects, namespace string, err error) {
	if objects, err = f.Cluster.Objects(); err == nil {
		namespace, err = f.Cluster.Namespace()
	}
	return objects, namespace, err
}

func (f *Factory) listNamespaces(ctx context.Context, _ []string) ([]string, error) {
	plain, err := f.Cluster.Plain()
	if err != nil {
		return nil, err
	}
	var list metav1.PartialObjectMetadataList
	err = plain.Get(ctx, "/api/v1/namespaces", &list)
	return cluster.Names(list.Items), err
}
