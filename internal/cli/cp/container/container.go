// Package container reads and writes the files of a container, or of a pod, by running
// programs in it: a shell, cat, and tar for trees.
//
//	files := container.New(ctx, run)
//	info, err := files.Stat("/etc/hosts")
//	err = files.Pack(ctx, "/var/log", func(stream io.Reader) error { ... })
//
// A copy needs no more than the right to run commands. The container is not trusted:
// what it prints is bounded, and a stream that ends early is an error, because each
// says how long it is or has an end of its own.
//
// Trade-off: each operation is a command, and pays for a start of one. The archive API
// of a Docker engine would need a right that the user may not have, and pods lack one.
package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Run runs a program in the container. Its error is a *client.ExitError if the program
// has ended with another code than 0.
type Run func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error

// Files are those of one container. Names that are not absolute begin at its working
// directory, and ~ is the home of its user.
type Files struct {
	run Run
	// copying is the context of the copy, and ctx lasts a little longer, to clean up.
	copying, ctx context.Context
	umask        fs.FileMode
	tar          bool
}

// partingTime is how long the container may take to clean up after a canceled copy.
const partingTime = 3 * time.Second

// New returns the files of the container in which run runs programs. release ends what
// still runs in it for the files.
func New(ctx context.Context, run Run) (files *Files, release func()) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(partingTime, cancel) })
	return &Files{run: run, copying: ctx, ctx: lasting}, func() { stop(); cancel() }
}

// Info is what a name in the container stands for.
type Info struct {
	// Path is absolute.
	Path     string
	mode     fs.FileMode
	size     int64
	modified time.Time
}

// Name implements fs.FileInfo.
func (i *Info) Name() string { return path.Base(i.Path) }

// Size implements fs.FileInfo. It is -1 if the container has no stat that says it.
func (i *Info) Size() int64 { return i.size }

// Mode implements fs.FileInfo.
func (i *Info) Mode() fs.FileMode { return i.mode }

// ModTime implements fs.FileInfo. Where the container has no stat, it is zero until the file is read.
func (i *Info) ModTime() time.Time { return i.modified }

// IsDir implements fs.FileInfo.
func (i *Info) IsDir() bool { return i.mode.IsDir() }

// Sys implements fs.FileInfo.
func (i *Info) Sys() any { return nil }

// Stat returns what a name stands for, with its absolute path also if there is nothing.
// It follows links.
func (f *Files) Stat(name string) (*Info, error) {
	said, err := f.ask(lookScript, name)
	if isCode(err, noProgram) {
		return &Info{Path: name}, noShell(err)
	}
	if err != nil {
		return &Info{Path: name}, err
	}
	facts := strings.SplitN(said, "\n", 5)
	if len(facts) < 5 || !path.IsAbs(facts[4]) {
		return &Info{Path: name}, fmt.Errorf("the container's shell does not answer as a shell: it said %q", display.OneLine(said))
	}
	umask, err := strconv.ParseUint(facts[0], 8, 12)
	if err != nil {
		return &Info{Path: name}, fmt.Errorf("the container's umask cannot be read: it is %q", display.OneLine(facts[0]))
	}
	f.umask, f.tar = fs.FileMode(umask).Perm(), facts[1] == "tar"
	info, err := infoOf(facts[2], path.Clean(facts[4]))
	var seconds int64
	if n, _ := fmt.Sscanf(facts[3], "%d %d", &info.size, &seconds); n == 2 {
		info.modified = time.Unix(seconds, 0)
	} else if err == nil && info.mode.IsRegular() {
		info.size = -1
	}
	return info, err
}

func infoOf(kind, name string) (*Info, error) {
	info := &Info{Path: name}
	switch kind {
	case "directory":
		info.mode = fs.ModeDir | 0o755
	case "file":
		info.mode = 0o644
	case "link":
		return info, nothing(name, fs.ErrNotExist)
	case "missing":
		return info, nothing(name, fs.ErrNotExist)
	case "denied":
		return info, nothing(name, fs.ErrPermission)
	default:
		info.mode = fs.ModeIrregular
	}
	return info, nil
}

func nothing(name string, err error) error { return &fs.PathError{Op: "stat", Path: name, Err: err} }

// WithoutUmask returns the permissions that a new file gets in the container.
func (f *Files) WithoutUmask(mode fs.FileMode) fs.FileMode { return mode.Perm() &^ f.umask }

// Rename gives a file a new name, and replaces what has it, unless that is a directory.
func (f *Files) Rename(from, to string) error { return f.do(to, renameScript, from, to) }

// Remove removes a file, or a directory with all that is in it, if it exists.
func (f *Files) Remove(name string) error { return f.do(name, removeScript, name) }

// Chmod sets permissions.
func (f *Files) Chmod(name string, mode fs.FileMode) error {
	return f.do(name, modeScript, name, octal(mode))
}

func octal(mode fs.FileMode) string { return strconv.FormatUint(uint64(mode.Perm()), 8) }

// Chtimes sets when a file was modified.
func (f *Files) Chtimes(name string, modified time.Time) error {
	return f.do(name, timeScript, name, strconv.FormatInt(modified.Unix(), 10))
}

// maxSaid bounds what is kept of what a script says, in bytes.
const maxSaid = 16 << 10

// do runs a script that prints nothing.
func (f *Files) do(name, script string, args ...string) error {
	_, err := f.ask(script, args...)
	return classify(name, err)
}

// ask runs a script, and returns what it prints.
func (f *Files) ask(script string, args ...string) (string, error) {
	said := &head{most: maxSaid}
	err := f.shell(f.ctx, nil, said, script, args...)
	return said.text(), err
}

// shell runs a script. The error has what it wrote to its standard error.
func (f *Files) shell(ctx context.Context, stdin io.Reader, stdout io.Writer, script string, args ...string) error {
	complaint := &head{most: maxSaid}
	argv := append([]string{"sh", "-c", "LC_ALL=C; export LC_ALL\n" + script, "sh"}, args...)
	err := f.run(ctx, argv, stdin, stdout, complaint)
	if own, ok := errors.AsType[*client.ExitError](err); ok {
		return &ScriptError{Code: own.Code, Said: complaint.text()}
	}
	return err
}

// head keeps the beginning of a stream.
type head struct {
	kept bytes.Buffer
	most int
}

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.kept.Write(p[:min(len(p), h.most-h.kept.Len())])
	return len(p), nil
}

func (h *head) text() string { return strings.ToValidUTF8(h.kept.String(), "") }

// ScriptError is a script that has failed in the container.
type ScriptError struct {
	Code int
	// Said is the beginning of its standard error.
	Said string
}

// Error implements error.
func (e *ScriptError) Error() string {
	if said := strings.TrimSpace(e.Said); said != "" {
		return "the container says " + strconv.Quote(display.OneLine(strings.ReplaceAll(said, "\n", "; ")))
	}
	return fmt.Sprintf("a command in the container ended with exit code %d", e.Code)
}

// Lines returns what the script said, line by line.
func (e *ScriptError) Lines() []string { return strings.Split(strings.TrimSpace(e.Said), "\n") }

// Is reports whether the failure is one of those that file systems know.
func (e *ScriptError) Is(target error) bool {
	switch target {
	case fs.ErrPermission:
		return strings.Contains(e.Said, "ermission denied") || strings.Contains(e.Said, "not permitted") ||
			strings.Contains(e.Said, "Read-only file system")
	case fs.ErrNotExist:
		return strings.Contains(e.Said, "No such file or directory") || strings.Contains(e.Said, "Directory nonexistent") ||
			strings.Contains(e.Said, "nonexistent directory")
	}
	return false
}

// classify adds the name to the failure of a script.
func classify(name string, err error) error {
	if _, ok := errors.AsType[*ScriptError](err); ok {
		return &fs.PathError{Op: "sh", Path: name, Err: err}
	}
	return err
}

// noProgram is the exit code of shells, containers and pods for a program that does not
// exist.
const noProgram = 127

func isCode(err error, code int) bool {
	failed, ok := errors.AsType[*ScriptError](err)
	return ok && failed.Code == code
}

func noShell(err error) error {
	return exit.Hint(fmt.Errorf("the container has no shell, and files are copied with its shell and cat: %w", err),
		"If it has cat, that brings a file: kubectl connpool exec POOL --container NAME -- cat FILE >FILE\n"+
			"Docker's own cp needs nothing in the container: kubectl connpool proxy POOL -- docker cp NAME:FILE .\n"+
			"For a pod: kubectl debug adds a container with a shell to it.")
}

// errNoTar says that a tree cannot be copied.
var errNoTar = exit.Hint(errors.New("the container has no tar, and directories are copied with it"),
	"Copy the files one by one: without -r, cp needs only a shell and cat.\n"+
		"Or bring one file to standard output: kubectl connpool exec POOL --container NAME -- cat FILE >FILE")
