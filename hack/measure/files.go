package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// file is a Go file that people wrote.
type file struct {
	// path is relative to the root of the checkout, with slashes.
	path string
	text []string
	// code are the numbers of the lines, from 0, that hold more than blanks and comment.
	code []int
	fset *token.FileSet
	tree *ast.File
}

// foreign are folders whose content is not of this repository.
var foreign = []string{".git", ".lab", ".cache", "bin", "vendor", "node_modules"}

// load reads all Go files of a checkout that are not generated, ordered by path.
func load(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(foreign, entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		f, err := parse(root, name)
		if err == nil && !ast.IsGenerated(f.tree) {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the checkout: %w", err)
	}
	return files, nil
}

func parse(root, name string) (file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return file{}, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	return file{
		path: filepath.ToSlash(relative),
		text: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"),
		code: codeLines(text),
		fset: fset,
		tree: tree,
	}, err
}

// codeLines returns the numbers of the lines that hold a token or a part of one, ordered.
func codeLines(text []byte) []int {
	fset := token.NewFileSet()
	source := fset.AddFile("", -1, len(text))
	var tokens scanner.Scanner
	tokens.Init(source, text, nil, 0)
	var lines []int
	for {
		position, kind, literal := tokens.Scan()
		if kind == token.EOF {
			return slices.Compact(lines)
		}
		if kind == token.SEMICOLON && literal == "\n" {
			continue // put in by the scanner
		}
		first := source.Line(position) - 1
		for line := range strings.Count(literal, "\n") + 1 {
			lines = append(lines, first+line)
		}
	}
}

func (f file) folder() string { return path.Dir(f.path) }

// production returns the files that are part of a program or of the client.
func production(files []file) []file {
	var kept []file
	for _, f := range files {
		room, _, _ := strings.Cut(f.path, "/")
		if slices.Contains([]string{"api", "client", "cmd", "internal"}, room) &&
			!strings.HasSuffix(f.path, "_test.go") && !strings.HasSuffix(f.folder(), "test") {
			kept = append(kept, f)
		}
	}
	return kept
}

// byFolder groups files that are ordered by path, so that packages come by path too.
func byFolder(files []file) [][]file {
	groups := map[string][]file{}
	for _, f := range files {
		groups[f.folder()] = append(groups[f.folder()], f)
	}
	ordered := make([][]file, 0, len(groups))
	for _, group := range groups {
		ordered = append(ordered, group)
	}
	slices.SortFunc(ordered, func(a, b []file) int { return strings.Compare(a[0].folder(), b[0].folder()) })
	return ordered
}

// function is one declared function or method.
type function struct {
	name, receiver string
	lines          int
}

func (f file) functions() []function {
	var all []function
	for _, declaration := range f.tree.Decls {
		declared, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := f.fset.Position(declared.Pos()).Line, f.fset.Position(declared.End()).Line
		all = append(all, function{declared.Name.Name, receiver(declared), last - first + 1})
	}
	return all
}

// receiver is the name of a method's type; "" for functions.
func receiver(declared *ast.FuncDecl) string {
	if declared.Recv == nil {
		return ""
	}
	expression := declared.Recv.List[0].Type
	for {
		switch e := expression.(type) {
		case *ast.StarExpr:
			expression = e.X
		case *ast.IndexExpr:
			expression = e.X
		case *ast.IndexListExpr:
			expression = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// oddWords make a reader ask who is meant.
var oddWords = regexp.MustCompile(`(?i)\b(whoever|nobody|somebody|anybody|none of)\b`)

// commentWords returns how many words the comments have, and how many of them are odd.
// Directives such as go:build are not comments.
func commentWords(files []file) (words, odd int) {
	for _, f := range files {
		for _, group := range f.tree.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			words += len(strings.Fields(text))
			odd += len(oddWords.FindAllString(text, -1))
		}
	}
	return words, odd
}
