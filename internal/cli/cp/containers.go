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

	"github.com/connpool/connpool/internal/cli/cp/container"
	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/location"
	"github.com/connpool/connpool/internal/cli/cp/plan"
	"github.com/connpool/connpool/internal/cli/cp/progress"
	"github.com/connpool/connpool/internal/cli/cp/tarstream"
	"github.com/connpool/connpool/internal/cli/cp/transfer"
)

// containerFiles are the files of a container or pod, one by one. Trees take another way.
type containerFiles struct{ *container.Files }

// Stat implements filesystem.Source.
func (c containerFiles) Stat(name string) (fs.FileInfo, error) {
	info, err := c.Files.Stat(name)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// Lstat follows links, too: what is written to one goes where it leads.
func (c containerFiles) Lstat(name string) (fs.FileInfo, error) { return c.Stat(name) }

// Create implements filesystem.Destination.
func (c containerFiles) Create(name string, mode fs.FileMode) (io.WriteCloser, error) {
	making := func(err error) error { return filesystem.ExplainMaking(path.Dir(name), err) }
	return &explaining{c.Files.Create(name, c.WithoutUmask(mode)), name, making}, nil
}

// Overwrite implements filesystem.Destination.
func (c containerFiles) Overwrite(name string, _ fs.FileMode) (io.WriteCloser, error) {
	writing := func(err error) error { return filesystem.ExplainWriting(name, err) }
	return &explaining{c.Files.Overwrite(name), name, writing}, nil
}

// Continue implements filesystem.Destination. The file ends at the offset.
func (c containerFiles) Continue(name string, offset int64, mode fs.FileMode) (io.WriteCloser, error) {
	writing := func(err error) error { return filesystem.ExplainWriting(name, err) }
	if mode != 0 {
		mode = c.WithoutUmask(mode)
	}
	return &explaining{c.Append(name, offset, mode), name, writing}, nil
}

// explaining is a writer whose errors name what is wrong, which the container says when
// it has begun to write.
type explaining struct {
	io.WriteCloser

	name    string
	explain func(error) error
}

// Name returns the name of the file.
func (e *explaining) Name() string { return e.name }

// Write implements io.Writer.
func (e *explaining) Write(p []byte) (int, error) {
	n, err := e.WriteCloser.Write(p)
	return n, e.explain(err)
}

// Close implements io.Closer.
func (e *explaining) Close() error { return e.explain(e.WriteCloser.Close()) }

// Open implements filesystem.Source.
func (c containerFiles) Open(name string) (io.ReadCloser, error) {
	in, err := c.Files.Open(name)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// List implements filesystem.Source. It is for trees, which take another way.
func (c containerFiles) List(string) ([]fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// ReadLink implements filesystem.Source. It is for trees, which take another way.
func (c containerFiles) ReadLink(string) (string, error) { return "", errors.ErrUnsupported }

// Mkdir implements filesystem.Destination. It is for trees, which take another way.
func (c containerFiles) Mkdir(string, fs.FileMode) error { return errors.ErrUnsupported }

// Enter implements filesystem.Destination. It is for trees, which take another way.
func (c containerFiles) Enter(string) error { return errors.ErrUnsupported }

// Link implements filesystem.Destination. It is for trees, which take another way.
func (c containerFiles) Link(string, string) error { return errors.ErrUnsupported }

// inContainer copies everything to or from the container in which run runs programs.
func (o *options) inContainer(ctx context.Context, run container.Run) error {
	files, release := container.New(ctx, run)
	defer release()
	err := o.copyAll(ctx, func(ctx context.Context, source location.Location) ([]error, error) {
		return o.copyInContainer(ctx, source, containerFiles{files})
	})
	if ctx.Err() != nil && err != nil {
		err = interrupted(err)
	}
	return o.withNextStep(err)
}

// noteAnew says that a directory cannot be continued.
func (o *options) noteAnew(name string) {
	if o.resume {
		fmt.Fprintf(o.ErrOut, "note: %q begins anew: --resume goes on with files, not with a directory of a container\n", name)
	}
}

func (o *options) copyInContainer(ctx context.Context, source location.Location, files containerFiles) ([]error, error) {
	remote := source.Path
	if o.destination.IsRemote() {
		remote = o.destination.Path
	}
	info, err := files.Files.Stat(remote)
	if err != nil && !(o.destination.IsRemote() && errors.Is(err, fs.ErrNotExist)) {
		return nil, filesystem.Explain(info.Path, err)
	}
	switch {
	case source.IsStream():
		return nil, o.upload(ctx, files, info.Path)
	case o.destination.IsRemote():
		return o.pushToContainer(ctx, source, files, info, err)
	case o.destination.IsStream():
		return nil, o.download(ctx, info.Path, files)
	}
	return o.pullFromContainer(ctx, source, files, info)
}

// pushToContainer copies to what info says, or to nothing if there is an error.
func (o *options) pushToContainer(
	ctx context.Context, source location.Location, files containerFiles, info *container.Info, missing error,
) ([]error, error) {
	local, name, err := filesystem.OpenLocal(source.Path)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	known := func(string) (fs.FileInfo, error) { return info, missing }
	wanted := info.Path
	if strings.HasSuffix(o.destination.Path, "/") && wanted != "/" {
		wanted += "/"
	}
	to, err := destinationIn(known, wanted, filepath.Base(source.Path), len(o.sources) > 1)
	if err != nil {
		return nil, err
	}
	p := &plan.Planner{From: local}
	if err := p.Add(ctx, name, to, o.recursive); err != nil {
		return nil, err
	}
	switch {
	case len(p.Entries) == 0:
		return p.Left, nil
	case p.Entries[0].Mode.IsRegular():
		return o.carryOut(ctx, p, local, files)
	}
	if to != info.Path {
		info, missing = files.Files.Stat(to)
	}
	if missing == nil && !info.IsDir() {
		return nil, fmt.Errorf("%q is in the way", to)
	}
	stage := path.Join(path.Dir(to), transfer.TemporaryName())
	if missing == nil {
		stage = path.Join(to, path.Base(stage))
	}
	return o.pushTree(ctx, p, local, files.Files, stage)
}

// pushTree copies a tree into a directory of its own, and moves it to its place when it
// is complete. That directory is in the destination if that exists, or beside it.
func (o *options) pushTree(
	ctx context.Context, p *plan.Planner, from *filesystem.Local, files *container.Files, stage string,
) ([]error, error) {
	o.noteAnew(p.Entries[0].From)
	t := &transfer.Transfer{From: from, Times: o.times, Digests: o.digests}
	defer t.ShowNotes(o.ErrOut)
	t.Meter = progress.NewMeter(o.ErrOut, p.Bytes(), o.quiet)
	left := p.Left
	err := files.Unpack(ctx, stage, o.times, func(out io.Writer) error {
		failed, err := t.Pack(ctx, tarstream.NewWriter(out), p.Entries, files.WithoutUmask)
		left = append(left, failed...)
		return err
	})
	t.Meter.Stop()
	if err != nil {
		_ = files.Remove(stage)
		return nil, filesystem.Explain(path.Dir(stage), err)
	}
	err = files.Install(stage, p.Entries[0].To, o.times)
	if failed, ok := errors.AsType[*container.ScriptError](err); ok && failed.Code == container.SomeLeft {
		return append(left, linesOf(failed)...), nil
	}
	if err != nil {
		_ = files.Remove(stage)
		return left, err
	}
	differ, err := t.CompareArrived(ctx)
	left = append(left, differ...)
	o.summarize(t, p.Files()-(len(left)-len(p.Left)), err)
	return left, err
}

// linesOf returns what a program in the container said about single files.
func linesOf(failed *container.ScriptError) (left []error) {
	for _, line := range failed.Lines() {
		left = append(left, errors.New(line))
	}
	return left
}

func (o *options) pullFromContainer(
	ctx context.Context, source location.Location, files containerFiles, info *container.Info,
) (left []error, ended error) {
	to, err := destinationIn(os.Stat, o.destination.Path, path.Base(source.Path), len(o.sources) > 1)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir() && !o.recursive:
		return nil, plan.IsDirectory(info.Path)
	case !info.IsDir() && !info.Mode().IsRegular():
		return nil, plan.IsNeither(info.Path)
	}
	local, name, err := filesystem.OpenLocal(to)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	t := &transfer.Transfer{From: files, To: local, Times: o.times, Resume: o.resume, Digests: o.digests}
	defer t.ShowNotes(o.ErrOut)
	if !info.IsDir() {
		return nil, filesystem.Explain(info.Path, o.pullFile(ctx, t, files.Files, info.Path, name))
	}
	o.noteAnew(info.Path)
	t.Meter = progress.NewMeter(o.ErrOut, transfer.UnknownSize, o.quiet)
	defer func() { o.summarize(t, t.Unpacked(), ended) }()
	defer t.Meter.Stop()
	whole := false
	err = files.Pack(ctx, info.Path, func(in io.Reader) (err error) {
		left, err = t.Unpack(ctx, tarstream.NewReader(in), info.Path, local, name)
		whole = err == nil
		return err
	})
	if failed, ok := errors.AsType[*container.ScriptError](err); ok && whole {
		return append(left, linesOf(failed)...), nil
	}
	return left, filesystem.Explain(info.Path, err)
}

// onlyError returns what is wrong with the only file of a copy.
func onlyError(failed []error, err error) error { return errors.Join(append(failed, err)...) }

func (o *options) pullFile(ctx context.Context, t *transfer.Transfer, files *container.Files, from, to string) error {
	in, err := files.Open(from) //nolint:contextcheck // files has the context of the copy
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // never fails; ends what still runs
	t.Meter = progress.NewMeter(o.ErrOut, in.Size(), o.quiet)
	if err = t.Copy(ctx, in, plan.NewEntry(from, to, in)); err == nil {
		err = onlyError(t.CompareArrived(ctx))
	}
	t.Meter.Stop()
	o.keep(t)
	o.summarize(t, 1, err)
	return err
}
