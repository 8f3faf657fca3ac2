// Package conventions checks the conventions of this repository: what each package
// is and may import, how source is written, what the manifests may ask for.
//
// Each rule stands in a table with its reason, which a failure prints, and with
// an example that breaks it. The check must find exactly what is wrong in the
// example, so a check that no longer works fails too. To change a rule, change
// its reason first.
//
// The rules read source and manifests as text and syntax trees and build nothing:
// all of them together take about a second. What a linter checks already is in
// .golangci.yml instead.
package conventions

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/connpool/connpool"

// rule is one convention.
type rule struct {
	// name says what holds, as a sentence.
	name string
	// why ends the sentence "because ...".
	why string
	// check returns what breaks the rule, each as "path: what".
	check func(tree) []string
	// bad are files that break the rule, and want is what check finds in them.
	bad  map[string]string
	want []string
}

func rules() []rule {
	return slices.Concat(importRules(), layoutRules(), packageRules(), sourceRules(), variableRules(), reasonRules(), manifestRules(), rightRules(), documentRules())
}

func TestTheRepositoryKeepsItsRules(t *testing.T) {
	repository := load(t, os.DirFS("../.."))
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			if found := r.check(repository); len(found) > 0 {
				t.Errorf("%s\nThe rule: %s,\nbecause %s.", strings.Join(found, "\n"), r.name, r.why)
			}
		})
	}
}

func TestEveryRuleCatchesItsBadExample(t *testing.T) {
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range r.bad {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got := r.check(load(t, files))
			slices.Sort(got)
			if diff := cmp.Diff(r.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// tree is the text of a repository.
type tree struct {
	// text holds every text file by its path.
	text map[string]string
	// pictures are the other files.
	pictures map[string]bool
	// sources are the Go files, ordered by path.
	sources []source
}

// source is one parsed Go file.
type source struct {
	path  string
	lines int
	fset  *token.FileSet
	file  *ast.File
}

// unwritten are folders whose content is not written by hand.
var unwritten = []string{".git", ".lab", ".cache", "bin", "vendor", "node_modules"}

func load(t *testing.T, files fs.FS) tree {
	t.Helper()
	loaded := tree{text: map[string]string{}, pictures: map[string]bool{}}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(unwritten, entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular() || entry.Name() == ".git": // a file in a worktree
			return nil
		}
		data, err := fs.ReadFile(files, name)
		if err == nil && utf8.Valid(data) {
			loaded.text[name] = string(data)
		} else {
			loaded.pictures[name] = true
		}
		return err
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	loaded.sources = parse(t, loaded.text)
	return loaded
}

func parse(t *testing.T, text map[string]string) []source {
	t.Helper()
	var sources []source
	for name, content := range text {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, content, parser.ParseComments)
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		sources = append(sources, source{name, strings.Count(content, "\n"), fset, file})
	}
	slices.SortFunc(sources, func(a, b source) int { return strings.Compare(a.path, b.path) })
	return sources
}

// dir is the file's folder, relative to the root of the repository.
func (s source) dir() string { return path.Dir(s.path) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		// The parser has accepted the literal.
		imported, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, imported)
	}
	return paths
}

// at formats a finding with its file and line.
func (s source) at(position token.Pos, what string) string {
	return s.path + ":" + strconv.Itoa(s.line(position)) + ": " + what
}

// line is the number of a line, from 1.
func (s source) line(position token.Pos) int { return s.fset.Position(position).Line }
