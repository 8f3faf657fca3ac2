// Package plan lists what there is to copy, from a file system that is not trusted.
//
//	p := &plan.Planner{From: source}
//	err := p.Add(ctx, "/etc/nginx", "nginx", true)
//
// Names that leave their directory end the walk, and links that leave the tree stay behind.
// A server is asked for directories before the walk comes to them.
package plan

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
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

// Part returns the temporary name of a large file, which a later copy finds again. It is the
// same as long as its source has the same size and time.
func (e Entry) Part() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", path.Base(e.To), e.Size, e.Modified.Unix()))
	return path.Join(path.Dir(e.To), ".connpool-"+strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])))
}

// Levels returns the directories of entries by how deep they are, the outermost first.
func Levels(entries []Entry) (levels [][]Entry) {
	at := map[int]int{}
	for _, e := range entries {
		if !e.Mode.IsDir() {
			continue
		}
		depth := strings.Count(e.To, "/")
		if _, known := at[depth]; !known {
			at[depth] = len(levels)
			levels = append(levels, nil)
		}
		levels[at[depth]] = append(levels[at[depth]], e)
	}
	return levels
}

// Planner walks a tree that it does not trust.
type Planner struct {
	From filesystem.Source
	// Entries are what there is to copy. Directories come before what is in them.
	Entries []Entry
	// Left says what stays behind, and why.
	Left []error
	size tree.Size
	// ahead are the directories that are listed before the walk comes to them.
	ahead lookahead
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

// Files returns how many files there are.
func (p *Planner) Files() int {
	n := 0
	for _, e := range p.Entries {
		if e.Mode.IsRegular() {
			n++
		}
	}
	return n
}

// Add plans one thing that the user has named. It follows a link.
func (p *Planner) Add(ctx context.Context, from, to string, recursive bool) error {
	info, err := p.From.Stat(from)
	if err != nil {
		return filesystem.Explain(from, err)
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
	children, err := p.ahead.list(p.From, e.From)
	if err != nil {
		p.leave(e, err)
		return nil
	}
	p.Entries = append(p.Entries, e)
	asked := 0
	for i, child := range children {
		name := child.Name()
		if !tree.IsPlainName(name) {
			return fmt.Errorf("the directory %.200q lists %.200q, which is not a valid file name: "+
				"the server cannot be trusted, and nothing was copied", e.From, name)
		}
		asked = p.ahead.ask(p.From, e.From, children, max(asked, i))
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
	p.Left = append(p.Left, filesystem.Explain(e.From, why))
}
