package plan

import (
	"io/fs"
	"path"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/tree"
)

// maxAhead is how many directories of a server are listed before a walk comes to them,
// so that it does not wait for each.
const maxAhead = 64

// lookahead keeps what directories hold until a walk comes to them. Its zero value is ready.
type lookahead struct{ coming map[string]chan listing }

type listing struct {
	children []fs.FileInfo
	err      error
}

// ask lists the directories among children from an index on, while there is room, and
// returns the index of the first child that it has not looked at.
func (l *lookahead) ask(from filesystem.Source, parent string, children []fs.FileInfo, next int) int {
	if !filesystem.IsServer(from) {
		return len(children)
	}
	if l.coming == nil {
		l.coming = map[string]chan listing{}
	}
	for ; next < len(children) && len(l.coming) < maxAhead; next++ {
		if !children[next].IsDir() || !tree.IsPlainName(children[next].Name()) {
			continue
		}
		name, coming := path.Join(parent, children[next].Name()), make(chan listing, 1)
		if _, twice := l.coming[name]; twice {
			continue
		}
		l.coming[name] = coming
		go func() {
			children, err := from.List(name)
			coming <- listing{children, err}
		}()
	}
	return next
}

// list returns what is in a directory, for which it may have asked before.
func (l *lookahead) list(from filesystem.Source, name string) ([]fs.FileInfo, error) {
	coming, asked := l.coming[name]
	if !asked {
		return from.List(name)
	}
	delete(l.coming, name)
	got := <-coming
	return got.children, got.err
}
