package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAgainstCountsTheFewestBackwardPairs(t *testing.T) {
	for name, c := range map[string]struct {
		uses graph
		want int
	}{
		"no file uses another one":                   {graph{}, 0},
		"files that build on each other":             {graph{"a": {"b"}, "b": {"c"}, "c": nil}, 0},
		"two files that use each other":              {graph{"a": {"b"}, "b": {"a"}}, 1},
		"a circle of three":                          {graph{"a": {"b"}, "b": {"c"}, "c": {"a"}}, 1},
		"a file in two circles closes both":          {graph{"a": {"b", "c"}, "b": {"a"}, "c": {"a"}}, 2},
		"three files, each of which uses the others": {graph{"a": {"b", "c"}, "b": {"a", "c"}, "c": {"a", "b"}}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.uses.against(); len(got) != c.want {
				t.Errorf("against() = %q, want %d", got, c.want)
			}
		})
	}
}

const (
	run     = "\ta()\n\tb()\n\tc()\n\td()\n\te()\n\tf()\n"
	another = "\tv()\n\tw()\n\tx()\n\ty()\n\tz()\n"
)

func TestRepeatedFindsRunsOfCode(t *testing.T) {
	for name, c := range map[string]struct {
		files       map[string]string
		runs, lines int
	}{
		"in two files": {map[string]string{"a.go": "func x() {\n" + run + "}\n", "b.go": "func y() {\n" + run + "}\n"}, 1, 7},
		"in one file":  {map[string]string{"a.go": "func x() {\n" + run + another + run + "}\n"}, 1, 6},
		"with another indentation, a comment and a blank line between": {
			map[string]string{"a.go": "func x() {\n" + run + another + "\tif ok {\n\t// Why.\n\n\t" + run + "}\n}\n"}, 1, 6,
		},
		"not for fewer lines": {map[string]string{"a.go": "func x() {\n" + another + run + another + "}\n"}, 0, 0},
		"not for imports": {map[string]string{
			"a.go": "import (\n\t\"1\"\n\t\"2\"\n\t\"3\"\n\t\"4\"\n\t\"5\"\n\t\"6\"\n)\n",
			"b.go": "import (\n\t\"1\"\n\t\"2\"\n\t\"3\"\n\t\"4\"\n\t\"5\"\n\t\"6\"\n)\n",
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			runs, lines := repeated(loadFiles(t, c.files))
			if runs != c.runs || lines != c.lines {
				t.Errorf("repeated() = %d runs, %d lines; want %d, %d", runs, lines, c.runs, c.lines)
			}
		})
	}
}

func TestCountMeasuresAPackage(t *testing.T) {
	files := loadFiles(t, map[string]string{
		"a.go": "// Whoever\n// reads.\n\ntype t struct{}\n\nfunc (t) a() {}\n\nfunc (*t) b() {\n\t_ = `\n\n`\n}\n",
		"b.go": "//go:build linux\n\nfunc c() {}\n",
	})
	want := row{name: ".", files: 2, lines: 19, code: 10, longest: 5, longestIn: "b", methods: 2, methodsOf: "t"}
	if diff := cmp.Diff(want, count(files), cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("count (-want +got):\n%s", diff)
	}
	if words, odd := commentWords(files); words != 2 || odd != 1 {
		t.Errorf("commentWords() = %d, %d; want 2, 1", words, odd)
	}
}

// loadFiles loads files of package p with this content.
func loadFiles(t *testing.T, content map[string]string) []file {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(root, name), []byte("package p\n\n"+text), 0o600); err != nil {
			t.Fatalf("write a file: %v", err)
		}
	}
	files, err := load(root)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return files
}
