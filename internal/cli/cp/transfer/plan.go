// Package transfer copies files from one file system to another, of which one is on this
// machine and the other is not trusted.
//
//	p := &transfer.Planner{From: source}
//	err := p.Add(ctx, "/etc/nginx", "nginx", true)
//	t := &transfer.Transfer{From: source, To: destination}
//	failed, err := t.Run(ctx, p.Entries)
//
// A Planner walks the source and lists what there is to copy, and a Transfer then copies
// it, several files at a time. A new file is written under a temporary name and renamed
// when it is complete, so that no reader sees half of it. One that exists is written in
// place, so that it keeps its owner, permissions and links. A tree may come and go as a
// tar stream instead, by Unpack and Pack.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/tree"
)

// Entry is one thing to copy: a file, a directory or a link.
type Entry struct {
	From, To string
	Mode     fs.FileMode
	Size     int64
	Modified time.Time
	Link     string // the target of a link
}

// Planner walks a tree that it does not trust.
type Planner struct {
	From Source
	// Entries are what there is to copy. Directories come before what is in them.
	Entries []Entry
	// Left says what stays behind, and why.
	Left []error
	size tree.Size
}

// Bytes returns how many bytes all files have.
func (p *Planner) Bytes() int64 {
	var sum int64
	for _, e := range p.Entries {
		if e.Mode.IsRegular() {
			sum += e.Size
		}
	}
	return sum
}

// Add plans one thing that the user has named. It follows a link.
func (p *Planner) Add(ctx context.Context, from, to string, recursive bool) error {
	info, err := p.From.Stat(from)
	if err != nil {
		return Explain(from, err)
	}
	if info.IsDir() && !recursive {
		return IsDirectory(from)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return IsNeither(from)
	}
	return p.walk(ctx, NewEntry(from, to, info), 0)
}

// IsDirectory says that a directory takes -r.
func IsDirectory(name string) error {
	return fmt.Errorf("%q is a directory: add -r to copy it with everything in it", name)
}

// IsNeither says that what is named cannot be copied.
func IsNeither(name string) error { return fmt.Errorf("%q is neither a file nor a directory", name) }

// NewEntry returns the entry of what a file system says about a name.
func NewEntry(from, to string, info fs.FileInfo) Entry {
	return Entry{From: from, To: to, Mode: info.Mode(), Size: info.Size(), Modified: info.ModTime()}
}

func (p *Planner) walk(ctx context.Context, e Entry, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.size.Add(e.From, depth, len(e.From)+len(e.To)); err != nil {
		return err
	}
	switch {
	case e.Mode.IsRegular():
		p.Entries = append(p.Entries, e)
	case e.Mode.IsDir():
		return p.walkDirectory(ctx, e, depth)
	case e.Mode&fs.ModeSymlink != 0:
		p.addLink(e, depth)
	default:
		p.leave(e, errors.New("it is not a file, a directory or a link"))
	}
	return nil
}

func (p *Planner) walkDirectory(ctx context.Context, e Entry, depth int) error {
	children, err := p.From.List(e.From)
	if err != nil {
		p.leave(e, err)
		return nil
	}
	p.Entries = append(p.Entries, e)
	for _, child := range children {
		name := child.Name()
		if !tree.IsPlainName(name) {
			return fmt.Errorf("the directory %.200q lists %.200q, which is not a valid file name: "+
				"the server cannot be trusted, and nothing was copied", e.From, name)
		}
		if err := p.walk(ctx, NewEntry(path.Join(e.From, name), path.Join(e.To, name), child), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *Planner) addLink(e Entry, depth int) {
	target, err := p.From.ReadLink(e.From)
	p.size.Keep(len(target))
	switch {
	case err != nil:
		p.leave(e, err)
	case !tree.StaysInside(target, depth):
		p.leave(e, fmt.Errorf("it is a link to %.200q, which is outside the copied directory", target))
	default:
		e.Link = target
		p.Entries = append(p.Entries, e)
	}
}

func (p *Planner) leave(e Entry, why error) {
	p.Left = append(p.Left, Explain(e.From, why))
}

// Explain words an error of a file system, if there is one, without repeating the
// name and the system call.
func Explain(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%q: permission denied", name)
	case isLost(err):
		return err // it is not about the file
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	if inner, ok := errors.AsType[*os.LinkError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("%q: %w", name, err)
}
