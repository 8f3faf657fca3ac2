package conventions

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	link       = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	goFile     = regexp.MustCompile("`([A-Za-z0-9_./-]+\\.go)`")
	makeTarget = regexp.MustCompile("(?m)(?:`|^ +(?:\\$ )?)make ([a-z][a-z0-9-]*)")
)

func documentRules() []rule {
	return []rule{
		{
			name:  "every link between documents leads somewhere",
			why:   "a reader who meets a dead link stops following links",
			check: deadLinks,
			bad: map[string]string{
				"docs/a.md": "[here](b.md#x), [there](../c.md), [out](https://example.com), [below](#below)\n",
				"docs/b.md": "[folder](../docs)\n",
			},
			want: []string{"docs/a.md: links to ../c.md"},
		},
		{
			name:  "documents name Go files that exist",
			why:   "files are moved and split, and a reader who does not find the named one has to search for its code",
			check: missingSources,
			bad: map[string]string{
				"internal/x/a.go": "package x\n",
				"docs/a.md":       "`a.go`, `x/a.go`, `internal/x/a.go`, `b.go`, `y/a.go`, `*.go` and all files in Go.\n",
			},
			want: []string{"docs/a.md: names b.go", "docs/a.md: names y/a.go"},
		},
		{
			name:  "documents name make targets that exist",
			why:   "the first command that fails is often the last one tried",
			check: missingTargets,
			bad: map[string]string{
				"Makefile": "run fast: # x\n\ngo run .\n",
				"a.md":     "`make run`, `make fast`:\n\n    make hay\n    $ make sense\n\nWe make do.\n",
			},
			want: []string{"a.md: make hay", "a.md: make sense"},
		},
		{
			name:  "a README.md has a link to every document in docs",
			why:   "a page that no index names is found by chance",
			check: pagesInNoIndex,
			bad: map[string]string{
				"docs/README.md":   "[a](x/a.md#part), [y](y/README.md)\n",
				"docs/x/a.md":      "[b](b.md)\n",
				"docs/x/b.md":      "\n",
				"docs/y/README.md": "[c](c.md)\n",
				"docs/y/c.md":      "\n",
			},
			want: []string{"docs/x/b.md: is in no index"},
		},
	}
}

func deadLinks(repository tree) []string {
	return inDocuments(repository, link, "links to ", func(document, target string) bool {
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			return true
		}
		return exists(repository, path.Join(path.Dir(document), target))
	})
}

// exists reports whether the repository has a file or folder of that name.
func exists(repository tree, name string) bool {
	if repository.pictures[name] {
		return true
	}
	for file := range repository.text {
		if file == name || strings.HasPrefix(file, name+"/") {
			return true
		}
	}
	return false
}

// missingSources accepts a file's name, its path, and the end of its path.
func missingSources(repository tree) []string {
	return inDocuments(repository, goFile, "names ", func(_, name string) bool {
		return slices.ContainsFunc(repository.sources, func(s source) bool {
			return s.path == name || strings.HasSuffix(s.path, "/"+name)
		})
	})
}

func missingTargets(repository tree) []string {
	targets := map[string]bool{}
	for line := range strings.Lines(repository.text["Makefile"]) {
		names, _, isRule := strings.Cut(line, ":")
		if !isRule || strings.HasPrefix(line, "\t") {
			continue
		}
		for name := range strings.FieldsSeq(names) {
			targets[name] = true
		}
	}
	return inDocuments(repository, makeTarget, "make ", func(_, target string) bool { return targets[target] })
}

// pagesInNoIndex returns the documents in docs that no README.md links to.
func pagesInNoIndex(repository tree) []string {
	listed := map[string]bool{"docs/README.md": true}
	for name, text := range repository.text {
		if path.Base(name) != "README.md" {
			continue
		}
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			listed[path.Join(path.Dir(name), match[1])] = true
		}
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(repository.text)) {
		if strings.HasPrefix(name, "docs/") && path.Ext(name) == ".md" && !listed[name] {
			found = append(found, name+": is in no index")
		}
	}
	return found
}

// inDocuments applies a check to what a pattern finds in every document.
func inDocuments(repository tree, pattern *regexp.Regexp, what string, good func(document, match string) bool) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(repository.text)) {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, match := range pattern.FindAllStringSubmatch(repository.text[name], -1) {
			if !good(name, match[1]) {
				found = append(found, fmt.Sprintf("%s: %s%s", name, what, match[1]))
			}
		}
	}
	return found
}
