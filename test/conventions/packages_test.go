package conventions

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
)

// meaningless are names that do not say what the code is about.
var meaningless = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared"}

func packageRules() []rule {
	return []rule{
		{
			name:  "every package has exactly one package comment",
			why:   "it is the package's contract: purpose, usage, trade-offs; two of them drift apart",
			check: packageComments,
			bad: map[string]string{
				"a/a.go":      "package a\n",
				"b/one.go":    "// Package b is b.\npackage b\n",
				"b/two.go":    "// Package b is also b.\npackage b\n",
				"c/c.go":      "// This comment names no package.\npackage c\n",
				"d/d.go":      "// Package d is fine.\npackage d\n",
				"d/d_test.go": "package d_test\n",
				"e/main.go":   "// Command e is fine.\npackage main\n",
			},
			want: []string{
				"a: package a has 0 package comments, want 1",
				"b: package b has 2 package comments, want 1: b/one.go, b/two.go",
				`c/c.go: the package comment does not start with "Package c "`,
			},
		},
		{
			name:  "a package is named after what it is about",
			why:   "a package called " + meaningless[0] + " collects code that belongs elsewhere, until every package imports it",
			check: packageNames,
			bad: map[string]string{
				"internal/helpers/x.go":  "package helpers\n",
				"internal/pool/types.go": "package pool\n",
				"internal/y/y.go":        "package common\n",
			},
			want: []string{
				"internal/helpers/x.go: package helpers in folder helpers",
				"internal/y/y.go: package common in folder y",
			},
		},
	}
}

func packageComments(repository tree) []string {
	documented := map[string][]string{}
	var found []string
	for _, s := range repository.sources {
		name := s.file.Name.Name
		if s.isGenerated() || s.isTest() && strings.HasSuffix(name, "_test") {
			continue
		}
		key := s.dir() + ": package " + name
		paths := documented[key]
		if s.file.Doc != nil {
			paths = append(paths, s.path)
		}
		documented[key] = paths
		if want := opening(name); s.file.Doc != nil && !strings.HasPrefix(s.file.Doc.Text(), want) {
			found = append(found, fmt.Sprintf("%s: the package comment does not start with %q", s.path, want))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(documented)) {
		if paths := documented[key]; len(paths) != 1 {
			finding := fmt.Sprintf("%s has %d package comments, want 1: %s", key, len(paths), strings.Join(paths, ", "))
			found = append(found, strings.TrimSuffix(finding, ": "))
		}
	}
	return found
}

// opening returns how a package comment must begin for Go's documentation tools.
func opening(name string) string {
	if name == "main" {
		return "Command "
	}
	return "Package " + name + " "
}

func packageNames(repository tree) []string {
	var found []string
	for _, s := range repository.sources {
		folder, name := path.Base(s.dir()), strings.TrimSuffix(s.file.Name.Name, "_test")
		if slices.Contains(meaningless, folder) || slices.Contains(meaningless, name) {
			found = append(found, fmt.Sprintf("%s: package %s in folder %s", s.path, name, folder))
		}
	}
	return found
}

// isGenerated reports whether the file has the comment by which Go tools know generated files.
func (s source) isGenerated() bool { return ast.IsGenerated(s.file) }
