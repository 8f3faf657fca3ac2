package cp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// entry is one thing to copy: a file, a directory or a link.
type entry struct {
	from, to string
	mode     fs.FileMode
	size     int64
	modified time.Time
	link     string // the target of a link
}

// Bounds of a tree, so that the tree of a hostile server ends. Package sftpclient
// bounds what a server lists before it is kept.
const (
	maxEntries = 1_000_000
	maxDepth   = 256
	// maxPaths bounds the paths of all entries, in bytes: a path repeats those of
	// the directories above it.
	maxPaths = 512 << 20
)

// planner walks a tree that it does not trust.
type planner struct {
	from sourceFiles
	// entries are what there is to copy. Directories come before what is in them.
	entries []entry
	// left says what stays behind, and why.
	left []error
	// paths is how many bytes the paths of the entries have.
	paths int
}

func (p *planner) bytes() int64 {
	var sum int64
	for _, e := range p.entries {
		if e.mode.IsRegular() {
			sum += e.size
		}
	}
	return sum
}

// add plans one thing that the user has named. It follows a link.
func (p *planner) add(ctx context.Context, from, to string, recursive bool) error {
	info, err := p.from.stat(from)
	if err != nil {
		return explain(from, err)
	}
	if info.IsDir() && !recursive {
		return fmt.Errorf("%q is a directory: add -r to copy it with all that is in it", from)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%q is neither a file nor a directory", from)
	}
	return p.walk(ctx, newEntry(from, to, info), 0)
}

func newEntry(from, to string, info fs.FileInfo) entry {
	return entry{from: from, to: to, mode: info.Mode(), size: info.Size(), modified: info.ModTime()}
}

func (p *planner) walk(ctx context.Context, e entry, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.paths += len(e.from) + len(e.to)
	if len(p.entries) >= maxEntries || depth > maxDepth || p.paths > maxPaths {
		return fmt.Errorf("%.200q has no end: after %d entries, %d directories deep", e.from, len(p.entries), depth)
	}
	switch {
	case e.mode.IsRegular():
		p.entries = append(p.entries, e)
	case e.mode.IsDir():
		return p.walkDirectory(ctx, e, depth)
	case e.mode&fs.ModeSymlink != 0:
		p.addLink(e, depth)
	default:
		p.leave(e, errors.New("it is neither a file nor a directory nor a link"))
	}
	return nil
}

func (p *planner) walkDirectory(ctx context.Context, e entry, depth int) error {
	children, err := p.from.list(e.from)
	if err != nil {
		p.leave(e, err)
		return nil
	}
	p.entries = append(p.entries, e)
	for _, child := range children {
		name := child.Name()
		if !isPlainName(name) {
			return fmt.Errorf("the directory %.200q lists %.200q, which is no name of a file: "+
				"the server cannot be trusted, and nothing is copied", e.from, name)
		}
		if err := p.walk(ctx, newEntry(path.Join(e.from, name), path.Join(e.to, name), child), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) addLink(e entry, depth int) {
	target, err := p.from.readLink(e.from)
	p.paths += len(target)
	switch {
	case err != nil:
		p.leave(e, err)
	case !staysInside(target, depth):
		p.leave(e, fmt.Errorf("it is a link to %.200q, which is outside of what is copied", target))
	default:
		e.link = target
		p.entries = append(p.entries, e)
	}
}

func (p *planner) leave(e entry, why error) {
	p.left = append(p.left, explain(e.from, why))
}

// isPlainName reports whether a name stays in its directory.
func isPlainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00"+string(os.PathSeparator))
}

// staysInside reports whether the target of a link that is depth directories deep
// is in the same tree. It accepts .. only at the beginning of the target, because
// a .. behind a name leads elsewhere if that name is a link.
func staysInside(target string, depth int) bool {
	if target == "" || path.IsAbs(target) || path.Clean(target) != strings.TrimSuffix(target, "/") {
		return false
	}
	up := 0
	for strings.HasPrefix(target, "../") || target == ".." {
		target = strings.TrimPrefix(strings.TrimPrefix(target, ".."), "/")
		up++
	}
	return up < depth
}

// explain words an error of a file system, if there is one, without repeating the
// name and the system call.
func explain(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%q: permission denied", name)
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	if inner, ok := errors.AsType[*os.LinkError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("%q: %w", name, err)
}
