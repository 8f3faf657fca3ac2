// Package proxy serves the API of a target on this machine, for docker, kubectl
// and helm.
//
// The local end is a socket that only the user can open, or a port that asks for a
// token that only the user can read; --port serves every user of this machine. A
// server passes the requests on to the target through the live API, with the
// user's permissions on the pool. A command, if there is one, runs with
// DOCKER_HOST or KUBECONFIG set for it.
//
// Trade-off: a cluster is served on a port, which every user of the machine can
// reach, because a kubeconfig cannot name a socket. The token protects it.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory

	command remote.Command // its words run on this machine
	port    int
	hasPort bool
	socket  string
}

// New returns the command proxy.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "proxy POOL[/TARGET] [-- COMMAND [ARGUMENT...]]",
		Short: "Use docker, kubectl or helm through a pool",
		Long: "Make the API of a Docker engine or a cluster available to its own tools, with your\n" +
			"permissions on the pool instead of the target's credentials.\n\n" +
			"With a command, that command runs with DOCKER_HOST or KUBECONFIG set, and its exit\n" +
			"code is passed on; 254 means that it was not run. Without one, the API is served\n" +
			"until Ctrl-C, and what to type is printed.\n\n" +
			"By default only you can reach it: a Docker engine through a socket in a private\n" +
			"directory, a cluster through a kubeconfig there, which holds a token. With --port\n" +
			"every user of this machine can reach it, but web pages cannot.",
		Example: f.Examples(
			"docker on an engine", "proxy ci -- docker ps",
			"with input", "proxy ci -- docker exec -i db psql < dump.sql",
			"kubectl and helm on a cluster", "proxy cluster -- helm list",
			"a shell in which kubectl means that cluster", "proxy cluster -- bash",
			"until Ctrl-C, for other terminals", "proxy ci/build-1",
			"on a port, for anything that speaks HTTP", "proxy cluster --port 8001"),
		ValidArgsFunction:     f.CompletePoolSlashTarget,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{plugin.OwnFailures: "true"},
		RunE:                  f.LiveE(o.complete, o.validate, o.run),
	}
	flags := command.Flags()
	o.command.RegisterTarget(f, command)
	flags.IntVar(&o.port, "port", 0, "Serve on this port of 127.0.0.1, for every user of this machine; 0 means any free port")
	flags.StringVar(&o.socket, "socket", "", "Serve on a unix socket at this path, which only you may use")
	command.MarkFlagsMutuallyExclusive("port", "socket")
	return command
}

func (o *options) complete(command *cobra.Command, args []string) error {
	if err := o.command.Read(command, args); err != nil {
		return exit.Hint(err, "For example: %s proxy ci -- docker ps", o.Name)
	}
	o.hasPort = command.Flags().Changed("port")
	return nil
}

func (o *options) validate() error {
	switch {
	case o.command.Pool == "":
		return errors.New("the name of the pool is missing")
	case o.port < 0 || o.port > 65535:
		return fmt.Errorf("--port %d is not a valid port (0-65535)", o.port)
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) (err error) {
	if o.command.Target == "" {
		if o.command.Target, err = o.onlyTarget(ctx); err != nil {
			return err
		}
	}
	api := live.Pool(o.Namespace, o.command.Pool).Proxy(o.command.Target)
	kind, err := kindOf(ctx, api)
	if err != nil {
		return o.Cluster.Explain(ctx, err, cluster.AskedToProxy(o.Namespace, o.command.Pool, o.command.Target))
	}
	return o.serve(ctx, api, kind)
}

// onlyTarget returns the target of a pool that has exactly one.
func (o *options) onlyTarget(ctx context.Context) (string, error) {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return "", err
	}
	pool, err := objects.Pool(ctx, o.Namespace, o.command.Pool)
	if err != nil {
		return "", o.Cluster.Explain(ctx, err, cluster.AskedToGet(cluster.Pools, o.Namespace, o.command.Pool))
	}
	if pool.Spec.TargetRef != nil {
		return pool.Spec.TargetRef.Name, nil
	}
	members, err := o.Cluster.Members(ctx, o.Namespace, o.command.Pool)
	if err != nil {
		return "", err
	}
	if names := cluster.Names(members); len(names) > 1 {
		return "", exit.Hint(fmt.Errorf("pool %s has %d targets, and a proxy serves one", o.command.Pool, len(names)),
			"Name it: %s proxy %s/%s. %s", o.Name, o.command.Pool, names[0], o.Cluster.Offer("target", "", o.Namespace, names))
	}
	return members[0].Name, nil
}

// serve serves until the command has ended or, if there is none, until Ctrl-C.
func (o *options) serve(ctx context.Context, api http.RoundTripper, kind apiKind) error {
	end, err := o.open(ctx, kind)
	if err != nil {
		return err
	}
	defer end.remove()
	server := serveProxy(end, api) //nolint:contextcheck // it lives until the command has ended, whatever ctx does
	defer server.stop()
	if len(o.command.Words) > 0 {
		return runChild(ctx, o.IOStreams, o.command.Words, end.environment())
	}
	fmt.Fprintf(o.Out, "Serving the API of %s (%s) at %s until Ctrl-C\n", o.command.Target, kind, end.address())
	if end.isOpen {
		fmt.Fprintln(o.ErrOut, "note: every user of this machine can use this port, with your permissions")
	}
	fmt.Fprintf(o.Out, "\n  %s\n", strings.Join(end.advice(), "\n  "))
	<-ctx.Done()
	return nil
}

func (o *options) open(ctx context.Context, kind apiKind) (*localEnd, error) {
	switch {
	case o.socket != "" && kind == apiKubernetes && len(o.command.Words) > 0:
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

// defaultNamespace returns the namespace that the target declares as its default.
// A user who may not read the target gets none.
func (o *options) defaultNamespace(ctx context.Context) string {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return ""
	}
	target, err := objects.Target(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.command.Target})
	if err != nil || target.Spec.Kubernetes == nil {
		return ""
	}
	return ptr.Deref(target.Spec.Kubernetes.DefaultNamespace, "")
}

type apiKind string

const (
	apiDocker     apiKind = "docker"
	apiKubernetes apiKind = "kubernetes"
)

// kindOf asks the target for its version. The answer shows what the target is, and
// that it can be reached, before a tool depends on it.
func kindOf(ctx context.Context, api http.RoundTripper) (apiKind, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://target/version", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := api.RoundTrip(request)
	if err != nil {
		return "", exit.Hint(fmt.Errorf("ask the target for its version: %w", err), "%s", cluster.CheckCluster)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, cluster.MaxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the version of the target: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", cluster.Refusal(response.StatusCode, body)
	}
	var version struct {
		Docker     string `json:"ApiVersion"`
		Kubernetes string `json:"gitVersion"`
	}
	switch err := json.Unmarshal(body, &version); {
	case err == nil && version.Docker != "":
		return apiDocker, nil
	case err == nil && version.Kubernetes != "":
		return apiKubernetes, nil
	}
	return "", errors.New("the target answers neither as a Docker engine nor as a cluster")
}

// runChild runs a command on this machine and returns its exit code as an error.
// It passes signals on, so that the command decides when to end, and what serves
// the command does not end before.
func runChild(ctx context.Context, streams genericiooptions.IOStreams, words, environment []string) error {
	if ctx.Err() != nil {
		return exit.WithError(exit.Interrupted, errors.New("interrupted before the command started"))
	}
	child := exec.Command(words[0], words[1:]...) //nolint:noctx // only signals end it
	child.Stdin, child.Stdout, child.Stderr = streams.In, streams.Out, streams.ErrOut
	child.Env = environment
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) { // or the child would not ignore it, as nohup wants
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return fmt.Errorf("the command was not run: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case err := <-ended:
			return childEnd(child.ProcessState, err)
		case s := <-signals:
			// A terminal sends the signals of its keys to the child, too.
			if fromKeys := s == os.Interrupt || s == syscall.SIGQUIT; !fromKeys || !terminal.Is(streams.In) {
				_ = child.Process.Signal(s) // It may have ended just now.
			}
		}
	}
}

// childEnd reports the end of a command as a shell would.
func childEnd(state *os.ProcessState, err error) error {
	if state == nil {
		return err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exit.With(128 + int(status.Signal()))
	}
	if state.Success() {
		return err // copying its streams may have failed
	}
	return exit.With(state.ExitCode())
}
