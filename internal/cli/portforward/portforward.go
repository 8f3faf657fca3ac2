// Package portforward listens on this machine and connects what comes to what a
// target reaches.
//
// A forward is read from [LOCAL:]REMOTE. A tunnel keeps it working: its listeners
// live as long as the command, and when the connection behind them is lost, it
// opens another one. All forwards end with the first error, or with Ctrl-C, which
// is not an error.
//
// Trade-off: what was open when a connection is lost is closed and not resumed,
// because only its two ends know whether that would be right.
package portforward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/listen"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
)

type options struct {
	*plugin.Factory

	pool, target string
	place        remote.Place // without a container: ports are the pod's
	addresses    []string
	words        []string
	forwards     []forward
}

// New returns the command port-forward.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "port-forward POOL[/TARGET] [LOCAL:]REMOTE...",
		Short: "Forward local ports through a target",
		Long: "Listen on this machine, and forward to what the target can reach, until Ctrl-C.\n\n" +
			"REMOTE is a port of the target, HOST:PORT as seen from it, or unix:/PATH for a socket on it. LOCAL is a port,\n" +
			"or unix:/PATH for a socket that only you may use; without LOCAL, the local port is the same as the remote one.\n" +
			"Local port 0 means any free port, and so does a remote socket or a named port without LOCAL. With --pod,\n" +
			"REMOTE is a port of that pod, as a number or as the name that a container gives it.\n\n" +
			"If the connection behind the forward is lost, it is made again: open streams are closed, and new ones wait for\n" +
			"it.",
		Example: f.Examples(
			"a database that listens on the target itself", "port-forward db/db-1 5432",
			"another host's web server, as seen from a target", "port-forward web 8080:intranet.example.com:80",
			"a pod of a cluster", "port-forward cluster --pod web-0 8080:80",
			"a port of a pod by its name", "port-forward cluster --pod web-0 8080:http",
			"several at once", "port-forward web/web-1 8080:80 8443:443",
			"the Docker engine of a target", "port-forward build unix:/tmp/docker.sock:unix:/var/run/docker.sock"),
		Args:              plugin.Args(2, plugin.Unbounded),
		ValidArgsFunction: f.CompletePoolSlashTarget,
		RunE:              f.LiveE(o.complete, o.validate, o.run),
	}
	o.place.RegisterPod(command.Flags())
	f.CompletePlaces(command)
	command.Flags().StringSliceVar(&o.addresses, "address", []string{"127.0.0.1"},
		"Addresses to listen on, such as localhost, 0.0.0.0 or ::; everyone who can reach them can reach the remote, too")
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) (err error) {
	o.words = args[1:]
	o.pool, o.target, err = cluster.PoolAndTarget(args[0])
	return err
}

func (o *options) validate() error {
	if err := o.place.Validate(); err != nil {
		return err
	}
	for _, word := range o.words {
		f, err := parseForward(word, o.place.Pod != "")
		if err != nil {
			return err
		}
		o.forwards = append(o.forwards, f)
	}
	if len(o.addresses) == 0 {
		return errors.New("--address is empty: name an address of this machine")
	}
	return nil
}

// through says where a forward leads.
func (o *options) through(f forward) string {
	where := o.pool
	if o.target != "" {
		where += "/" + o.target
	}
	if o.place.Pod != "" {
		return fmt.Sprintf("%s of pod %s on %s", f.remote, o.place.Pod, where)
	}
	if strings.Contains(f.remote, ":") {
		return f.remote + " through " + where
	}
	return f.remote + " on " + where
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	pool := live.Pool(o.Namespace, o.pool)
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range o.forwards {
		open := func(ctx context.Context) (forwarder, error) {
			opened, err := o.openTo(ctx, pool, f.remote)
			if err != nil {
				return nil, o.Cluster.Explain(ctx, cluster.WithoutCommand(err), o.asked(f))
			}
			return opened, nil
		}
		if err := o.start(ctx, group, f, open); err != nil {
			// The first error of a group ends the other forwards.
			group.Go(func() error { return err })
			break
		}
	}
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil // Ctrl-C is how the user ends it
}

// asked is what a forward asks for. A unix socket needs a permission of its own.
func (o *options) asked(f forward) cluster.Asked {
	asked := cluster.AskedToStream("portforward", o.Namespace, o.pool, o.target)
	if strings.HasPrefix(f.remote, "/") {
		socket := asked
		socket.Resource, socket.Verbs = cluster.Pools+"/socketforward", []string{"create"}
		asked.With = append(asked.With, socket)
	}
	return asked
}

// openTo opens a forwarder to a port of the pod, or to what the target reaches.
func (o *options) openTo(ctx context.Context, pool *client.Pool, address string) (*client.Forwarder, error) {
	if o.place.Pod == "" {
		return pool.Forward(ctx, o.target, address)
	}
	pod := types.NamespacedName{Namespace: o.place.Namespace, Name: o.place.Pod}
	port, err := strconv.ParseUint(address, 10, 16)
	if err != nil {
		return pool.ForwardPodPort(ctx, o.target, pod, address)
	}
	return pool.ForwardPod(ctx, o.target, pod, uint16(port))
}

// start serves one forward in the group, once it is known to work.
func (o *options) start(ctx context.Context, group *errgroup.Group, f forward, open openFunc) error {
	listeners, err := f.listen(ctx, o.addresses)
	if err != nil {
		return err
	}
	t := &tunnel{open: open, remote: o.through(f), say: o.say, conns: make(chan net.Conn)}
	first, err := open(ctx)
	if err != nil {
		closeAll(listeners)
		return err
	}
	for _, l := range listeners {
		fmt.Fprintf(o.Out, "Forwarding from %s -> %s\n", l.Addr(), t.remote)
		group.Go(func() error { return t.accept(ctx, l) })
	}
	group.Go(func() error { return t.serve(ctx, first) })
	return nil
}

func (o *options) say(line string) { fmt.Fprintln(o.ErrOut, display.OneLine(exit.Words(line))) }

// forward is a local end and where it leads.
type forward struct {
	network, local string // tcp and a port, or unix and a path
	remote         string // in the words of client.Pool.Forward
}

const unixPrefix = "unix:"

// parseForward reads [LOCAL:]REMOTE, whose remote may be a port of a pod.
func parseForward(text string, ofPod bool) (forward, error) {
	local, remote, hasLocal := splitForward(text)
	f := forward{network: "tcp", local: local}
	port, err := remotePort(remote, ofPod)
	switch {
	case err != nil && remote == text:
		return forward{}, err
	case err != nil:
		return forward{}, fmt.Errorf("%q: %w", text, err)
	}
	f.remote = strings.TrimPrefix(remote, unixPrefix)
	if !hasLocal {
		f.local = port
	}
	if path, ok := strings.CutPrefix(local, unixPrefix); ok {
		f.network, f.local = "unix", path
		return f, nil
	}
	f.local = cmp.Or(f.local, "0") // as in kubectl, :80 is port 80 from any local port
	if !isPort(f.local, 0) {
		return forward{}, fmt.Errorf("%q: %q is not a valid local port (0-65535)", text, f.local)
	}
	return f, nil
}

// splitForward finds the colon between both ends. What comes first is local if
// it is a number, a socket or nothing.
func splitForward(text string) (local, remote string, hasLocal bool) {
	if i := strings.LastIndex(text, ":"+unixPrefix+"/"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	path, isSocket := strings.CutPrefix(text, unixPrefix)
	head, rest, ok := strings.Cut(path, ":")
	switch {
	case isSocket && ok:
		return unixPrefix + head, rest, true
	case !isSocket && ok && strings.Trim(head, "0123456789") == "":
		return head, rest, true
	}
	return "", text, false
}

// remotePort returns the port of a remote, and "" if it has none that is a number.
func remotePort(remote string, ofPod bool) (string, error) {
	path, isSocket := strings.CutPrefix(remote, unixPrefix)
	port := remote
	switch {
	case ofPod && (isSocket || strings.Contains(remote, ":")):
		return "", fmt.Errorf("%q is not a port of a pod: with --pod, the remote is a port (1-65535) or its name", remote)
	case ofPod && len(validation.IsValidPortName(remote)) == 0:
		return "", nil
	case isSocket && !strings.HasPrefix(path, "/"):
		return "", fmt.Errorf("%q: the path of a remote socket begins with /", path)
	case isSocket:
		return "", nil
	case strings.Contains(remote, ":"):
		var err error
		if _, port, err = net.SplitHostPort(remote); err != nil {
			return "", fmt.Errorf("%q is not a valid remote: write PORT, HOST:PORT or unix:/PATH", remote)
		}
	}
	if !isPort(port, 1) {
		return "", fmt.Errorf("%q is not a valid port (1-65535)", port)
	}
	return port, nil
}

// isPort reports whether a text is a port, of which the lowest allowed is given.
func isPort(text string, lowest uint64) bool {
	number, err := strconv.ParseUint(text, 10, 16)
	return err == nil && number >= lowest
}

// listen opens the local end, on all of the addresses or on none.
func (f forward) listen(ctx context.Context, addresses []string) ([]net.Listener, error) {
	if f.network == "unix" {
		listener, err := listen.Unix(ctx, f.local)
		if err != nil {
			return nil, err
		}
		return []net.Listener{listener}, nil
	}
	var listeners []net.Listener
	for _, address := range addresses {
		opened, err := listen.Every(ctx, address, f.local)
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, opened...)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}
