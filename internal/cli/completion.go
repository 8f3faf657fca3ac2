package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// completionTimeout bounds how long a Tab may take.
const completionTimeout = 2 * time.Second

// newCompletionCommand prints the script that makes Tab work.
func newCompletionCommand(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the script that completes commands and names in your shell",
		Long: "Print the script that completes commands, pools, targets and namespaces.\n\n" +
			"It is for the name connpool. For `kubectl connpool`, put an executable called\n" +
			"kubectl_complete-connpool into your PATH, which holds:\n\n" +
			"  #!/bin/sh\n  exec kubectl connpool __complete \"$@\"",
		Example: "  # in ~/.bashrc\n  source <(" + f.name + " completion bash)\n\n" +
			"  # in ~/.zshrc\n  source <(" + f.name + " completion zsh)",
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		DisableFlagsInUseLine: true,
		RunE: func(command *cobra.Command, args []string) error {
			return f.completionScript(command.Root(), args[0])
		},
	}
}

func (f *factory) completionScript(root *cobra.Command, shell string) error {
	// The script calls a single word, which is the binary's other name.
	root.Use = "connpool"
	root.Annotations = nil
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(f.Out, true)
	case "zsh":
		return root.GenZshCompletion(f.Out)
	case "fish":
		return root.GenFishCompletion(f.Out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(f.Out)
	default:
		return fmt.Errorf("no completion for %q", shell)
	}
}

// completer offers words for what is typed so far.
type completer = cobra.CompletionFunc

// namesOf makes a completer of a list of names that is asked for at each Tab.
// What cannot be asked for is not offered: a Tab is no place for errors.
func namesOf(list func(ctx context.Context, args []string) ([]string, error)) completer {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
		defer cancel()
		names, err := list(ctx, args)
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		var fitting []string
		for _, name := range names {
			if strings.HasPrefix(name, typed) {
				fitting = append(fitting, name)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

// completePools completes one pool.
func (f *factory) completePools(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return namesOf(f.listPools)(command, args, typed)
}

// completePoolSlashTarget completes POOL and, once the slash is typed,
// POOL/TARGET.
func (f *factory) completePoolSlashTarget(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	pool, _, slash := strings.Cut(typed, "/")
	if len(args) > 0 || !slash {
		return f.completePools(command, args, typed)
	}
	return namesOf(func(ctx context.Context, _ []string) ([]string, error) {
		names, err := f.listTargets(ctx, []string{pool})
		for i, name := range names {
			names[i] = pool + "/" + name
		}
		return names, err
	})(command, args, typed)
}

// completeTargets completes any target, as often as there are arguments.
func (f *factory) completeTargets(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return namesOf(f.listTargets)(command, nil, typed)
}

func (f *factory) listPools(ctx context.Context, _ []string) ([]string, error) {
	objects, err := f.objects()
	if err != nil {
		return nil, err
	}
	namespace, err := f.namespace()
	if err != nil {
		return nil, err
	}
	all, err := objects.pools(ctx, namespace)
	return poolNames(all), err
}

// listTargets lists the targets of the pool that is the first argument, or all.
func (f *factory) listTargets(ctx context.Context, args []string) ([]string, error) {
	objects, err := f.objects()
	if err != nil {
		return nil, err
	}
	namespace, err := f.namespace()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		all, err := objects.targets(ctx, namespace)
		return targetNames(all), err
	}
	pool, _ := poolAndTarget(args[0])
	return knownTargets(ctx, objects, asked{resource: pools, namespace: namespace, name: pool})
}

// completeSessions completes sessions, as often as there are arguments.
func (f *factory) completeSessions(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return namesOf(f.listSessions)(command, nil, typed)
}

// completeSession completes one session.
func (f *factory) completeSession(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.completeSessions(command, args, typed)
}

// listSessions lists the sessions that have not ended.
func (f *factory) listSessions(ctx context.Context, _ []string) ([]string, error) {
	live, err := f.live()
	if err != nil {
		return nil, err
	}
	namespace, err := f.namespace()
	if err != nil {
		return nil, err
	}
	list, err := live.Sessions(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		if s := &list.Items[i]; s.Status.State != livev1alpha1.SessionEnded {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// listNamespaces lists the namespaces of the cluster.
func (f *factory) listNamespaces(ctx context.Context, _ []string) ([]string, error) {
	plain, err := f.plain()
	if err != nil {
		return nil, err
	}
	var list metav1.PartialObjectMetadataList
	if err := plain.get(ctx, "/api/v1/namespaces", &list); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list.Items))
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	return names, nil
}

// listContexts lists the contexts of the kubeconfig.
func (f *factory) listContexts(context.Context, []string) ([]string, error) {
	config, err := f.config.loader().RawConfig()
	names := make([]string, 0, len(config.Contexts))
	for name := range config.Contexts {
		names = append(names, name)
	}
	return names, err
}

// completeFlag completes the value of a flag that a command has.
func completeFlag(command *cobra.Command, flag string, complete completer) {
	// It fails only for a flag that does not exist, which a test would see.
	_ = command.RegisterFlagCompletionFunc(flag, complete)
}
