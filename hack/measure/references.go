package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// listed is what `go list` says of a package.
type listed struct {
	ImportPath string   `json:"ImportPath"`
	Dir        string   `json:"Dir"`
	Export     string   `json:"Export"` // the file with its types, in the build cache
	GoFiles    []string `json:"GoFiles"`
	DepOnly    bool     `json:"DepOnly"`
}

// references returns, by folder, which files of a production package use which other ones.
// It needs the packages to compile, because it takes the types of what they import from the build cache.
func references(ctx context.Context, root string) (map[string]graph, error) {
	all, err := list(ctx, root)
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	base, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	graphs := map[string]graph{}
	for _, p := range all {
		if p.DepOnly {
			continue
		}
		folder, err := filepath.Rel(base, p.Dir)
		if err != nil {
			return nil, err
		}
		if graphs[filepath.ToSlash(folder)], err = p.references(exports); err != nil {
			return nil, fmt.Errorf("check the types of %s: %w", folder, err)
		}
	}
	return graphs, nil
}

// list asks the go command for the production packages and all that they import.
func list(ctx context.Context, root string) ([]listed, error) {
	command := exec.CommandContext(ctx, "go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly",
		"./api/...", "./client/...", "./cmd/...", "./internal/...")
	command.Dir, command.Stderr = root, os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		all = append(all, p)
	}
}

// references checks the types of a package and collects what its files use of each other.
func (p listed) references(exports map[string]string) (graph, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		tree, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, tree)
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", open)}
	checked, err := config.Check(p.ImportPath, fset, files, info)
	if err != nil {
		return nil, err
	}
	uses := graph{}
	for name, object := range info.Uses {
		if object.Pkg() == checked && !isLocal(object) {
			uses.add(baseName(fset, name.Pos()), baseName(fset, object.Pos()))
		}
	}
	return uses, nil
}

// isLocal reports whether an object is declared inside a function.
// Fields and methods have no scope of their own.
func isLocal(object types.Object) bool {
	scope := object.Parent()
	return scope != nil && scope != object.Pkg().Scope()
}

func baseName(fset *token.FileSet, position token.Pos) string {
	return filepath.Base(fset.Position(position).Filename)
}

// graph holds, for each file, the others that it uses.
type graph map[string][]string

func (g graph) add(from, to string) {
	if from != to && !slices.Contains(g[from], to) {
		g[from] = append(g[from], to)
	}
}

// size is the number of pairs.
func (g graph) size() int {
	n := 0
	for _, to := range g {
		n += len(to)
	}
	return n
}

// against returns the pairs that run from a lower file to a higher one, in a good order of the files.
// It begins with the names' order, and moves one file at a time to its best position until no move helps.
func (g graph) against() []string {
	order := g.files()
	for best := len(g.backward(order)); ; {
		for i := range order {
			order = g.bestPosition(order, i)
		}
		now := g.backward(order)
		if len(now) == best {
			return now
		}
		best = len(now)
	}
}

func (g graph) files() []string {
	var names []string
	for from, to := range g {
		names = append(append(names, from), to...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// bestPosition returns the order with the i-th file where the fewest pairs run backward.
func (g graph) bestPosition(order []string, i int) []string {
	name, rest := order[i], slices.Delete(slices.Clone(order), i, i+1)
	best, least := order, len(g.backward(order))
	for j := range len(rest) + 1 {
		moved := slices.Insert(slices.Clone(rest), j, name)
		if n := len(g.backward(moved)); n < least {
			best, least = moved, n
		}
	}
	return best
}

// backward returns the pairs of which the user stands before the used one; lower files come first.
func (g graph) backward(order []string) []string {
	position := map[string]int{}
	for i, name := range order {
		position[name] = i
	}
	var pairs []string
	for _, from := range order {
		for _, to := range g[from] {
			if position[from] < position[to] {
				pairs = append(pairs, from+" uses "+to)
			}
		}
	}
	slices.Sort(pairs)
	return pairs
}
