package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
)

// proxyOptions make the API of a target reachable for its own tools.
type proxyOptions struct {
	*factory

	// target and its pool.
	command   remoteCommand
	namespace string
	port      int
	hasPort   bool
	socket    string
}

// newProxyCommand makes the API of a target reachable for its own tools.
func newProxyCommand(f *factory) *cobra.Command {
	o := &proxyOptions{factory: f}
	command := &cobra.Command{
		Use:   "proxy POOL[/TARGET] [-- COMMAND [ARGUMENT...]]",
		Short: "Use docker, kubectl or helm through a pool",
		Long: "Make the API of a Docker engine or of a cluster reachable for its own tools, with\n" +
			"your permissions on the pool instead of its credentials.\n\n" +
			"With a command, it is run with DOCKER_HOST or KUBECONFIG set for it, and its exit\n" +
			"code is passed on; 254 means that it was not run. Without one, the API is served\n" +
			"until Ctrl-C, and what to type is printed.\n\n" +
			"By default only you can reach it: a Docker engine by a socket in a directory of\n" +
			"yours, a cluster by a kubeconfig there, which holds a token. With --port everybody\n" +
			"on this machine can, but no web page.",
		Example: f.examples(
			"docker on an engine", "proxy ci -- docker ps",
			"with input", "proxy ci -- docker exec -i db psql < dump.sql",
			"kubectl and helm on a cluster", "proxy cluster -- helm list",
			"a shell in which kubectl means that cluster", "proxy cluster -- bash",
			"until Ctrl-C, for other terminals", "proxy ci/build-1",
			"on a port, for anything that speaks HTTP", "proxy cluster --port 8001"),
		ValidArgsFunction:     f.completePoolSlashTarget,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{failureCode: "true"},
		RunE:                  runs(o),
	}
	flags := command.Flags()
	flags.StringVar(&o.command.target, "target", "", "Target of the pool; the same as POOL/TARGET")
	flags.IntVar(&o.port, "port", 0, "Serve on this port of 127.0.0.1, for everybody on this machine; 0 means any free one")
	flags.StringVar(&o.socket, "socket", "", "Serve on a unix socket of this path, which only you may use")
	command.MarkFlagsMutuallyExclusive("port", "socket")
	completeFlag(command, "target", namesOf(f.listTargets))
	return command
}

func (o *proxyOptions) complete(command *cobra.Command, args []string) (err error) {
	if err := o.command.read(command, args, false); err != nil {
		return hinted(err, "For example: %s proxy ci -- docker ps", o.name)
	}
	o.hasPort = command.Flags().Changed("port")
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *proxyOptions) validate() error {
	switch {
	case o.command.pool == "":
		return errors.New("the pool has no name")
	case o.port < 0 || o.port > 65535:
		return fmt.Errorf("--port %d is no port from 0 to 65535", o.port)
	}
	return nil
}

func (o *proxyOptions) run(ctx context.Context) error {
	live, err := o.live()
	if err != nil {
		return err
	}
	if o.command.target == "" {
		if o.command.target, err = o.onlyTarget(ctx); err != nil {
			return err
		}
	}
	api := live.Pool(o.namespace, o.command.pool).Proxy(o.command.target)
	kind, err := kindOf(ctx, api)
	if err != nil {
		return o.explain(ctx, err, askedToProxy(o.namespace, o.command.pool, o.command.target))
	}
	return o.serve(ctx, api, kind)
}

// onlyTarget is the target of a pool that has one.
func (o *proxyOptions) onlyTarget(ctx context.Context) (string, error) {
	objects, err := o.objects()
	if err != nil {
		return "", err
	}
	pool, err := objects.pool(ctx, o.namespace, o.command.pool)
	if err != nil {
		return "", o.explain(ctx, err, askedToGet(pools, o.namespace, o.command.pool))
	}
	if pool.Spec.TargetRef != nil {
		return pool.Spec.TargetRef.Name, nil
	}
	members, err := o.members(ctx, o.namespace, o.command.pool)
	if err != nil {
		return "", err
	}
	if names := targetNames(members); len(names) > 1 {
		return "", hinted(fmt.Errorf("pool %s has %d targets, and a proxy is for one", o.command.pool, len(names)),
			"Name it: %s proxy %s/%s. %s", o.name, o.command.pool, names[0], o.offer("target", "", o.namespace, names))
	}
	return members[0].Name, nil
}

// serve serves until the command has ended, or for ever if there is none.
func (o *proxyOptions) serve(ctx context.Context, api http.RoundTripper, kind apiKind) error {
	place, err := o.open(ctx, kind)
	if err != nil {
		return err
	}
	defer place.remove()
	server := serveProxy(place, api) //nolint:contextcheck // it lives until the command has ended, whatever ctx does
	defer server.stop()
	if len(o.command.words) > 0 {
		return runChild(ctx, o.IOStreams, o.command.words, place.environment())
	}
	fmt.Fprintf(o.Out, "Serving the API of %s (%s) at %s until Ctrl-C\n", o.command.target, kind, place.address())
	if place.isOpen {
		fmt.Fprintln(o.ErrOut, "note: everybody on this machine can use this port, as you")
	}
	fmt.Fprintf(o.Out, "\n  %s\n", strings.Join(place.advice(), "\n  "))
	<-ctx.Done()
	return nil
}

// open makes the local end.
func (o *proxyOptions) open(ctx context.Context, kind apiKind) (*localEnd, error) {
	switch {
	case o.socket != "" && kind == apiKubernetes && len(o.command.words) > 0:
		return nil, errors.New("a kubeconfig cannot name a socket: leave --socket out, and the command gets a port of its own")
	case o.socket != "":
		return openSocket(ctx, kind, o.socket)
	case o.hasPort:
		return openPort(ctx, kind, o.port)
	case kind == apiDocker:
		return openPrivateSocket(ctx)
	}
	return openPrivatePort(ctx, o.defaultNamespace(ctx))
}

// defaultNamespace is the one that the target's users usually mean. Who may not
// read the target does without.
func (o *proxyOptions) defaultNamespace(ctx context.Context) string {
	objects, err := o.objects()
	if err != nil {
		return ""
	}
	target, err := objects.target(ctx, types.NamespacedName{Namespace: o.namespace, Name: o.command.target})
	if err != nil || target.Spec.Kubernetes == nil {
		return ""
	}
	return value(target.Spec.Kubernetes.DefaultNamespace)
}
