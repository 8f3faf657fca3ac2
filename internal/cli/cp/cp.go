// Package cp copies files to and from a host, over the sftp subsystem of a target, or to
// and from a container or pod, with the shell and the tar that it has.
//
// A Planner walks the source and lists what there is to copy, and a transfer then
// copies it, several files at a time. A new file is written under a temporary name
// and renamed when it is complete, so that no reader sees half of it. One that
// exists is written in place, so that it keeps its owner, permissions and links.
//
// The other side is not trusted. Names that leave their directory end the copy,
// links that leave the tree stay behind, trees have bounds, and os.Root keeps
// every write inside of the destination, which is the copied directory for a tree.
//
// Trade-off: a tree goes into a container as a whole, under a temporary name, because
// tar keeps no rule of the above. So it needs room twice where it replaces files.
package cp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/location"
	"github.com/connpool/connpool/internal/cli/cp/plan"
	"github.com/connpool/connpool/internal/cli/cp/progress"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/cp/transfer"
	"github.com/connpool/connpool/internal/cli/cp/tree"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/places"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory

	sources     []location.Location
	destination location.Location
	place       remote.Place
	recursive   bool
	times       bool
	quiet       bool
	many        many
	resume      bool
	verify      bool
	// again is the command that goes on with a copy that has ended in the middle, and kept
	// says that there is a part to go on with.
	again string
	kept  atomic.Bool
	// digests are those of the target; nil if nothing is verified.
	digests *digest.Tool
	// streams is how many share a large file; 0 leaves it to the distance.
	streams int
}

// New returns the command cp.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "cp SOURCE... DESTINATION",
		Short: "Copy files to and from a host, container or pod",
		Long: "Copy files to or from a host over sftp, or to or from a container or pod with its sh, cat and tar.\n\n" +
			"One side is POOL:PATH or POOL/TARGET:PATH. A relative path starts at the user's home directory or, in a\n" +
			"container, at the working directory of commands. A path without a colon, or one that starts with ./ or /, is a\n" +
			"file on this machine; - is standard input or output. If a pool has several targets, name one of\n" +
			"them, or say with --all, --target or --selector to which a copy goes.\n\n" +
			"A new file appears under its name only when it is complete: it is written under a temporary name beside it and\n" +
			"then renamed. It gets the permissions of its source, less those that the umask of the receiving side takes\n" +
			"away. A file that exists is overwritten in place, as scp does: it keeps its owner, permissions and links, and\n" +
			"is incomplete if the copy breaks off: --resume goes on from there. What has arrived is compared by SHA-256, where\n" +
			"the other side has a program for it, or else by size. Symbolic links that lead out of the copied directory are skipped and\n" +
			"reported.",
		Example: f.Examples(
			"to the one target of a pool", "cp site.conf web:/etc/nginx/conf.d/",
			"a directory from a target, with its times", "cp -rp web/web-1:/var/log/nginx ./logs",
			"to a container of a Docker engine", "cp site.conf ci:/etc/nginx/conf.d/ -c web",
			"a directory from a pod", "cp -r cluster:/data ./data --pod web-0 -c app",
			"to all targets of a pool", "cp site.conf web:/etc/nginx/conf.d/ --all",
			"what another program prints", "cp - web:backup.sql < dump.sql"),
		Args: plugin.Args(2, plugin.Unbounded),
		RunE: f.LiveE(o.complete, o.validate, o.run),
		ValidArgsFunction: func(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			names, _ := f.CompletePoolSlashTarget(command, nil, typed)
			for i := range names {
				names[i] += ":"
			}
			return names, cobra.ShellCompDirectiveNoSpace
		},
	}
	flags := command.Flags()
	o.place.Register(flags)
	flags.BoolVarP(&o.recursive, "recursive", "r", false, "Copy directories with everything in them")
	flags.BoolVarP(&o.times, "preserve", "p", false, "Give copies the permissions and times of their sources, whatever the umask is")
	flags.IntVar(&o.streams, "parallel", 0,
		"How many streams share a file of 16 MiB or more, of a host; by default, 4 if it is far away and 1 if it is near. "+
			"With several targets, how many get it at the same time; by default, 10")
	flags.BoolVar(&o.many.all, "all", false, "Copy to every target of the pool")
	flags.StringArrayVar(&o.many.names, "target", nil, "Copy to this target; may be repeated")
	flags.StringVarP(&o.many.selector, "selector", "l", "", "Copy to the targets with these labels")
	plugin.CompleteFlag(command, "target", f.CompleteTarget)
	flags.BoolVar(&o.resume, "resume", false,
		"Go on with the part of a file of 8 MiB or more that an earlier copy has left")
	flags.BoolVar(&o.verify, "verify", true, "Compare the SHA-256 of both sides, where the other one has openssl, sha256sum or shasum")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress, and do not say which container was chosen")
	return command
}

func (o *options) complete(command *cobra.Command, args []string) error {
	o.again = o.resumeCommand(command, args)
	last := len(args) - 1
	for _, arg := range args[:last] {
		o.sources = append(o.sources, location.Parse(arg))
	}
	o.destination = location.Parse(args[last])
	return location.Check(o.sources, o.destination)
}

// there returns the side that is not on this machine.
func (o *options) there() location.Location {
	if o.destination.IsRemote() {
		return o.destination
	}
	return o.sources[0]
}

func (o *options) validate() error {
	if o.streams < 0 || o.streams > sftpclient.MaxStreams && !o.many.asked() {
		return fmt.Errorf("--parallel %d is not possible: choose 1 to %d streams", o.streams, sftpclient.MaxStreams)
	}
	if err := o.many.validate(o.sources, o.destination); err != nil {
		return err
	}
	return o.place.Validate()
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	there := o.there()
	pool := live.Pool(o.Namespace, there.Pool)
	if o.many.asked() {
		return o.copyToMany(ctx, pool)
	}
	target, err := o.onlyTarget(ctx, there)
	if err != nil {
		return err
	}
	engine := o.place.IsTarget() && isEngine(ctx, pool, target)
	return o.copyWith(ctx, &way{options: o, pool: pool, target: target, engine: engine})
}

// copyWith copies by commands on one target.
func (o *options) copyWith(ctx context.Context, w *way) error {
	if o.verify {
		o.digests = digest.New(w.inPlace)
	}
	if o.place.IsTarget() && !w.engine {
		return o.over(ctx, w.sftp)
	}
	return o.inContainer(ctx, w.inPlace)
}

// way is how commands reach the target of a copy.
type way struct {
	*options

	pool *client.Pool
	// engine says that the target is a Docker engine, which has files in containers only.
	engine bool

	mu sync.Mutex // guards what follows
	// target is empty until the pool has chosen one, to which the copy then keeps.
	target string
}

func (w *way) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target
}

// settle keeps to what the pool has chosen: what follows is about the same files.
func (w *way) settle(result client.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = cmp.Or(w.target, result.Target)
	w.settleContainer(result)
}

func (w *way) stream(ctx context.Context, command client.Command, streams client.Streams) error {
	command.Target = w.name()
	streams.Opened = w.settle
	result, err := w.pool.Stream(ctx, command, streams)
	w.settle(result)
	asked := cluster.AskedToStream("exec", w.Namespace, w.there().Pool, command.Target)
	return w.Cluster.Explain(ctx, cluster.WithoutCommand(err), asked)
}

// sftp runs the sftp subsystem.
func (w *way) sftp(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	said := &beginning{}
	err := w.stream(ctx, client.Command{Subsystem: "sftp", Stdin: stdin, Spread: true}, client.Streams{Stdout: stdout, Stderr: said})
	if own, ok := errors.AsType[*client.ExitError](err); ok && said.String() != "" {
		return fmt.Errorf("%w, and it said %q", own, said)
	}
	return err
}

// inPlace runs a program in the container or pod.
func (w *way) inPlace(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	command := client.Command{
		Container: w.place.Container, Pod: w.place.Pod, Namespace: w.place.Namespace, Argv: argv, Stdin: stdin,
	}
	return w.stream(ctx, command, client.Streams{Stdout: stdout, Stderr: stderr})
}

// isEngine reports whether the target is a Docker engine, which has files in containers
// only. If that cannot be found out it is taken for a host, whose answer says why.
func isEngine(ctx context.Context, pool *client.Pool, target string) bool {
	all, err := places.Targets(ctx, pool, "")
	return err == nil && slices.ContainsFunc(all, func(t livev1alpha1.ListedTarget) bool {
		return (target == "" || t.Name == target) && t.Type == string(v1alpha1.TargetTypeDocker)
	})
}

// settleContainer says which container the operator has chosen, and keeps to it for the
// rest of the copy.
func (o *options) settleContainer(result client.Result) {
	if result.Container == "" || o.place.Container != "" {
		return
	}
	o.place.Container = result.Container
	if !o.quiet {
		remote.NoteContainer(o.ErrOut, result.Target, result.Container)
	}
}

// onlyTarget returns the target that is named, or the only one of the pool. Where there
// are several, files would go to any of them. A user who may not read the pool is not
// asked: to copy needs only the right to run commands.
func (o *options) onlyTarget(ctx context.Context, there location.Location) (string, error) {
	if there.Target != "" {
		return there.Target, nil
	}
	members, err := o.Cluster.Members(ctx, o.Namespace, there.Pool)
	switch {
	case apierrors.IsForbidden(err):
		return "", nil
	case err != nil:
		return "", err
	case len(members) == 1:
		return members[0].Name, nil
	}
	const most = 5
	var names []string
	for _, name := range cluster.Names(members[:min(most, len(members))]) {
		names = append(names, there.Pool+"/"+name)
	}
	if more := len(members) - most; more > 0 {
		names = append(names, fmt.Sprintf("or one of %d more", more))
	}
	err = fmt.Errorf("%s has %d targets: name one, %s", there.Pool, len(members), strings.Join(names, ", "))
	if o.destination.IsRemote() {
		err = exit.Hint(err, "Or copy to several: --all, --target NAME (may be repeated) or --selector LABELS.")
	}
	return "", err
}

// beginning keeps the first bytes that a server writes to its standard error.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	const most = 512
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return len(p), nil
}

// String returns what was kept, on one line.
func (b *beginning) String() string { return display.OneLine(strings.ToValidUTF8(string(b.text), "")) }

func (o *options) over(ctx context.Context, subsystem sftpclient.Subsystem) error {
	for i := range o.sources {
		o.sources[i] = o.sources[i].FromHome()
	}
	o.destination = o.destination.FromHome()
	server, err := sftpclient.OpenFiles(ctx, subsystem, o.ErrOut, o.streams)
	if err != nil {
		return err
	}
	err = o.copyAll(ctx, func(ctx context.Context, source location.Location) ([]error, error) {
		return o.copyOne(ctx, source, server)
	})
	return o.withNextStep(o.explain(ctx, server, err, server.Close()))
}

// explain says why a copy has ended, of which the streams may know more.
func (o *options) explain(ctx context.Context, server *sftpclient.Files, err, ended error) error {
	if failure := server.Failure(); failure != nil {
		return failure
	}
	if ctx.Err() != nil && err != nil {
		return interrupted(err)
	}
	if filesystem.IsConnectionLost(err) && ended != nil {
		return fmt.Errorf("%w: %w", err, ended)
	}
	return err
}

func interrupted(err error) error { return exit.WithError(exit.Interrupted, &interruption{err}) }

// interruption is the error of a copy that the user has ended.
type interruption struct{ cause error }

// Error implements error. The words of a context are none for people.
func (i *interruption) Error() string {
	const text = "interrupted before everything was copied"
	if errors.Is(i.cause, context.Canceled) {
		return text
	}
	return text + ": " + i.cause.Error()
}

// Unwrap returns the cause.
func (i *interruption) Unwrap() error { return i.cause }

// copyAll copies all sources. copyOne returns what stays behind, and what ended the copy.
func (o *options) copyAll(ctx context.Context, copyOne func(context.Context, location.Location) ([]error, error)) error {
	left := 0
	for _, source := range o.sources {
		failed, err := copyOne(ctx, source)
		for _, failure := range failed {
			fmt.Fprintln(o.ErrOut, "not copied:", display.OneLine(exit.Words(failure.Error())))
		}
		if err != nil {
			return err
		}
		left += len(failed)
	}
	if left > 0 {
		return fmt.Errorf("%s not copied", display.Count(left, "file or directory was", "files or directories were"))
	}
	return nil
}

func (o *options) copyOne(ctx context.Context, source location.Location, remote *sftpclient.Files) ([]error, error) {
	switch {
	case source.IsStream():
		return nil, o.upload(ctx, remote, o.destination.Path)
	case o.destination.IsStream():
		return nil, o.download(ctx, source.Path, remote)
	case o.destination.IsRemote():
		return o.push(ctx, source, remote)
	}
	return o.pull(ctx, source, remote)
}

func (o *options) push(ctx context.Context, source location.Location, remote *sftpclient.Files) ([]error, error) {
	local, name, err := filesystem.OpenLocal(source.Path)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	to, err := destinationIn(remote.Stat, o.destination.Path, filepath.Base(source.Path), len(o.sources) > 1)
	if err != nil {
		return nil, err
	}
	return o.transfer(ctx, local, remote, name, to)
}

func (o *options) pull(ctx context.Context, source location.Location, remote *sftpclient.Files) ([]error, error) {
	to, err := destinationIn(os.Stat, o.destination.Path, path.Base(source.Path), len(o.sources) > 1)
	if err != nil {
		return nil, err
	}
	local, name, err := filesystem.OpenLocal(to)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	return o.transfer(ctx, remote, local, source.Path, name)
}

func (o *options) transfer(
	ctx context.Context, from filesystem.Source, to filesystem.Destination, source, destination string,
) ([]error, error) {
	p := &plan.Planner{From: from}
	if err := p.Add(ctx, source, destination, o.recursive); err != nil {
		return nil, err
	}
	return o.carryOut(ctx, p, from, to)
}

func (o *options) carryOut(ctx context.Context, p *plan.Planner, from filesystem.Source, to filesystem.Destination) ([]error, error) {
	t := &transfer.Transfer{From: from, To: to, Times: o.times, Resume: o.resume, Digests: o.digests}
	defer t.ShowNotes(o.ErrOut)
	t.Meter = progress.NewMeter(o.ErrOut, p.Bytes(), o.quiet)
	failed, err := t.Run(ctx, p.Entries)
	t.Meter.Stop()
	o.keep(t)
	o.summarize(t, p.Files()-len(failed), err)
	return append(p.Left, failed...), err
}

// keep remembers that there is a part to go on with.
func (o *options) keep(t *transfer.Transfer) {
	if t.Kept() {
		o.kept.Store(true)
	}
}

// summarize says what was copied, and how that was verified.
func (o *options) summarize(t *transfer.Transfer, copied int, err error) {
	if err != nil || o.quiet {
		return
	}
	text := t.Meter.Summary(copied)
	if copied > 0 {
		text += ", " + t.Verified()
	}
	fmt.Fprintln(o.ErrOut, text)
}

// upload copies standard input.
func (o *options) upload(ctx context.Context, remote filesystem.Destination, name string) error {
	if info, err := remote.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%q is a directory: name the file in it to write standard input to", name)
	}
	t := &transfer.Transfer{To: remote}
	defer t.ShowNotes(o.ErrOut)
	t.Meter = progress.NewMeter(o.ErrOut, transfer.UnknownSize, o.quiet)
	defer t.Meter.Stop()
	return filesystem.Explain(name, t.Receive(ctx, o.In, name))
}

// download copies to standard output.
func (o *options) download(ctx context.Context, name string, remote filesystem.Source) error {
	// A progress bar would interrupt a file that is shown on the terminal.
	m := progress.NewMeter(o.ErrOut, transfer.UnknownSize, o.quiet || terminal.Is(o.Out))
	defer m.Stop()
	return filesystem.Explain(name, (&transfer.Transfer{From: remote, Meter: m}).Send(ctx, name, o.Out))
}

// destinationIn chooses the name of a copy as cp does: inside of the named
// directory if it exists, and otherwise the name itself.
func destinationIn(stat func(string) (fs.FileInfo, error), name, base string, several bool) (string, error) {
	info, err := stat(name)
	switch {
	case err == nil && info.IsDir() && tree.IsPlainName(base):
		return strings.TrimSuffix(name, "/") + "/" + base, nil
	case err == nil && info.IsDir():
		return name, nil // the content of ., .. or / goes into it
	case several:
		return "", fmt.Errorf("%q is not a directory: to copy several files, name a directory", name)
	case err == nil && !info.Mode().IsRegular():
		return "", fmt.Errorf("%q exists and is not a regular file, so it was not replaced", name)
	case strings.HasSuffix(name, "/"):
		return "", fmt.Errorf("the directory %q does not exist", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", filesystem.Explain(name, err)
	}
	return name, nil
}
