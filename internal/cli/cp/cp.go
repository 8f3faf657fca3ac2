// Package cp copies files to and from a host, over the sftp subsystem of a target.
//
// A planner walks the source and lists what there is to copy, and a transfer then
// copies it, several files at a time. A new file is written under a temporary name
// and renamed when it is complete, so that no reader sees half of it. One that
// exists is written in place, so that it keeps its owner, permissions and links.
//
// The other side is not trusted. Names that leave their directory end the copy,
// links that leave the tree stay behind, trees have bounds, and os.Root keeps
// every write inside of the destination, which is the copied directory for a tree.
//
// Trade-off: hosts only. Containers and pods have no sftp, and the error proposes
// tar.
package cp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"
	"github.com/spf13/cobra"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/cp/progress"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/terminal"
)

type options struct {
	*plugin.Factory

	sources     []location
	destination location
	recursive   bool
	times       bool
	quiet       bool
}

// New returns the command cp.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "cp SOURCE... DESTINATION",
		Short: "Copy files to and from a host",
		Long: "Copy files to and from a host, over sftp.\n\n" +
			"One side is POOL:PATH or POOL/TARGET:PATH; a relative path begins at the user's home. What has no colon, or\n" +
			"begins with ./ or /, is a file of this machine; - is standard input or output.\n\n" +
			"A new file appears under its name only when it is complete: it is written to a temporary name beside it and\n" +
			"then renamed. It has the permissions of its source, without those that the umask of its side takes away. A\n" +
			"file that exists is written in place, as scp does: it keeps its owner, permissions and links, and is incomplete\n" +
			"if the copy breaks off. Links in a tree that lead out of it stay behind, and are reported.",
		Example: f.Examples(
			"to the one target of a pool, or any of it", "cp site.conf web:/etc/nginx/conf.d/",
			"a directory from a target, with its times", "cp -rp web/web-1:/var/log/nginx ./logs",
			"what another program prints", "cp - web:backup.sql < dump.sql"),
		Args: cobra.MinimumNArgs(2),
		RunE: f.LiveE(o.complete, nil, o.run),
		ValidArgsFunction: func(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			names, _ := f.CompletePoolSlashTarget(command, nil, typed)
			for i := range names {
				names[i] += ":"
			}
			return names, cobra.ShellCompDirectiveNoSpace
		},
	}
	flags := command.Flags()
	flags.BoolVarP(&o.recursive, "recursive", "r", false, "Copy directories with all that is in them")
	flags.BoolVarP(&o.times, "preserve", "p", false, "Give copies the permissions and times of their sources, whatever the umask is")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress")
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	last := len(args) - 1
	for _, arg := range args[:last] {
		o.sources = append(o.sources, parseLocation(arg))
	}
	o.destination = parseLocation(args[last])
	return checkLocations(o.sources, o.destination)
}

// remote returns the side that is not on this machine.
func (o *options) remote() location {
	if o.destination.isRemote() {
		return o.destination
	}
	return o.sources[0]
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	remote := o.remote()
	return o.over(ctx, func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		command := client.Command{Target: remote.target, Subsystem: "sftp", Stdin: stdin}
		said := &beginning{}
		_, err := live.Pool(o.Namespace, remote.pool).Stream(ctx, command, client.Streams{Stdout: stdout, Stderr: said})
		if own, ok := errors.AsType[*client.ExitError](err); ok && said.String() != "" {
			return fmt.Errorf("%w, and it said %q", own, said)
		}
		return o.Cluster.Explain(ctx, err, cluster.AskedToStream("exec", o.Namespace, remote.pool, remote.target))
	})
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
	server, err := sftpclient.Open(ctx, subsystem, o.ErrOut)
	if err != nil {
		return err
	}
	err = o.copyAll(ctx, remoteFiles{server})
	ended := server.Close()
	if failure := server.Failure(); failure != nil {
		return failure
	}
	if ctx.Err() != nil && err != nil {
		return exit.WithError(exit.Interrupted, fmt.Errorf("interrupted, and not all is copied: %w", err))
	}
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) && ended != nil {
		return fmt.Errorf("%w: %w", err, ended)
	}
	return err
}

func (o *options) copyAll(ctx context.Context, remote remoteFiles) error {
	left := 0
	for _, source := range o.sources {
		failed, err := o.copyOne(ctx, source, remote)
		for _, failure := range failed {
			fmt.Fprintln(o.ErrOut, "not copied:", display.OneLine(failure.Error()))
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

func (o *options) copyOne(ctx context.Context, source location, remote remoteFiles) ([]error, error) {
	switch {
	case source.isStream():
		return nil, o.upload(ctx, remote)
	case o.destination.isStream():
		return nil, o.download(ctx, source.path, remote)
	case o.destination.isRemote():
		return o.push(ctx, source, remote)
	}
	return o.pull(ctx, source, remote)
}

func (o *options) push(ctx context.Context, source location, remote remoteFiles) ([]error, error) {
	local, name, err := openLocal(source.path)
	if err != nil {
		return nil, err
	}
	defer local.close()
	to, err := destinationIn(remote.stat, o.destination.path, filepath.Base(source.path), len(o.sources) > 1)
	if err != nil {
		return nil, err
	}
	return o.transfer(ctx, local, remote, name, to)
}

func (o *options) pull(ctx context.Context, source location, remote remoteFiles) ([]error, error) {
	to, err := destinationIn(os.Stat, o.destination.path, path.Base(source.path), len(o.sources) > 1)
	if err != nil {
		return nil, err
	}
	local, name, err := openLocal(to)
	if err != nil {
		return nil, err
	}
	defer local.close()
	return o.transfer(ctx, remote, local, source.path, name)
}

func (o *options) transfer(ctx context.Context, from sourceFiles, to destinationFiles, source, destination string) ([]error, error) {
	p := &planner{from: from}
	if err := p.add(ctx, source, destination, o.recursive); err != nil {
		return nil, err
	}
	t := &transfer{from: from, to: to, times: o.times}
	defer t.notes.show(o.ErrOut)
	t.meter = progress.NewMeter(o.ErrOut, p.bytes(), o.quiet)
	defer t.meter.Stop()
	failed, err := t.run(ctx, p.entries)
	return append(p.left, failed...), err
}

func (o *options) upload(ctx context.Context, remote remoteFiles) error {
	name := o.destination.path
	if info, err := remote.stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%q is a directory: name the file in it that standard input becomes", name)
	}
	t := &transfer{to: remote}
	defer t.notes.show(o.ErrOut)
	t.meter = progress.NewMeter(o.ErrOut, unknownSize, o.quiet)
	defer t.meter.Stop()
	return explain(name, t.receive(ctx, o.In, name))
}

// download copies to standard output.
func (o *options) download(ctx context.Context, name string, remote remoteFiles) error {
	// A progress bar would interrupt a file that is shown on the terminal.
	m := progress.NewMeter(o.ErrOut, unknownSize, o.quiet || terminal.Is(o.Out))
	defer m.Stop()
	return explain(name, (&transfer{from: remote, meter: m}).send(ctx, name, o.Out))
}

// destinationIn chooses the name of a copy as cp does: inside of the named
// directory if it exists, and otherwise the name itself.
func destinationIn(stat func(string) (fs.FileInfo, error), name, base string, several bool) (string, error) {
	info, err := stat(name)
	switch {
	case err == nil && info.IsDir() && isPlainName(base):
		return strings.TrimSuffix(name, "/") + "/" + base, nil
	case err == nil && info.IsDir():
		return name, nil // the content of ., .. or / goes into it
	case several:
		return "", fmt.Errorf("%q is no directory: several files need one", name)
	case err == nil && !info.Mode().IsRegular():
		return "", fmt.Errorf("%q exists and is no file, so it is not replaced", name)
	case strings.HasSuffix(name, "/"):
		return "", fmt.Errorf("the directory %q does not exist", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", explain(name, err)
	}
	return name, nil
}

// resolve follows the links of a path on this machine. The file itself need not
// exist, nor the one to which its link leads.
func resolve(name string) (string, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		followed, err := filepath.EvalSymlinks(absolute)
		if !errors.Is(err, fs.ErrNotExist) {
			return followed, err
		}
		target, err := os.Readlink(absolute)
		if err != nil { // it is no link: it or its directory does not exist
			return absolute, nil //nolint:nilerr // the attempt to open it says what is wrong
		}
		directory, err := filepath.EvalSymlinks(filepath.Dir(absolute))
		if err != nil {
			return "", err
		}
		if absolute = target; !filepath.IsAbs(target) {
			absolute = filepath.Join(directory, target)
		}
	}
	return "", errors.New("too many links")
}

// maxLinks is how many links in a row a system follows.
const maxLinks = 40

// openLocal opens the directory of a path, and returns the name in it.
func openLocal(name string) (*localFiles, string, error) {
	full, err := resolve(name)
	if err != nil {
		return nil, "", explain(name, err)
	}
	root, err := os.OpenRoot(filepath.Dir(full))
	if err != nil {
		return nil, "", explain(filepath.Dir(full), err)
	}
	if filepath.Dir(full) == full {
		return &localFiles{root: root}, ".", nil
	}
	return &localFiles{root: root}, filepath.Base(full), nil
}

// standardStream is standard input as a source, and standard output as a destination.
const standardStream = "-"

// location is one side of a copy. Without a pool it is on this machine.
type location struct {
	pool, target, path string
}

func (l location) isRemote() bool { return l.pool != "" }

func (l location) isStream() bool { return !l.isRemote() && l.path == standardStream }

// sameTarget reports whether one sftp client reaches both.
func (l location) sameTarget(other location) bool {
	return l.pool == other.pool && l.target == other.target
}

func (l location) String() string {
	switch {
	case !l.isRemote():
		return l.path
	case l.target == "":
		return l.pool + ":" + l.path
	}
	return l.pool + "/" + l.target + ":" + l.path
}

// parseLocation reads [POOL[/TARGET]:]PATH. A text without a colon, or without
// valid names before its colon, is a file of this machine. So ./a:b always is.
func parseLocation(text string) location {
	local := location{path: text}
	names, path, ok := strings.Cut(text, ":")
	if !ok || filepath.VolumeName(text) != "" {
		return local
	}
	pool, target, hasTarget := strings.Cut(cluster.PoolName(names), "/")
	if !cluster.IsName(pool) || hasTarget && !cluster.IsName(target) {
		return local
	}
	return location{pool: pool, target: target, path: fromHome(path)}
}

// fromHome makes a path relative to the user's home, where sftp begins. sftp does
// not know the ~ that users type.
func fromHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	switch {
	case path == "" || path == "~" || ok && strings.Trim(rest, "/") == "":
		return "."
	case ok:
		return strings.TrimLeft(rest, "/")
	}
	return path
}

// checkLocations refuses what cannot be copied.
func checkLocations(sources []location, destination location) error {
	for _, source := range sources {
		switch {
		case source.path == "" || destination.path == "":
			return errors.New("a path is empty: name a file")
		case source.isRemote() && destination.isRemote():
			return fmt.Errorf("both %s and %s are remote: copy to this machine first, and from here on", source, destination)
		case !source.isRemote() && !destination.isRemote():
			return fmt.Errorf("neither %s nor %s is remote: write POOL:PATH or POOL/TARGET:PATH for the remote side", source, destination)
		case !source.sameTarget(sources[0]):
			return fmt.Errorf("%s and %s are of different pools or targets: copy them one after the other", sources[0], source)
		case len(sources) > 1 && (source.isStream() || destination.isStream()):
			return errors.New("- takes exactly one file: name one source")
		}
	}
	return nil
}
