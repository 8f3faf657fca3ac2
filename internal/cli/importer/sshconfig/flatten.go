package sshconfig

import (
	"path/filepath"
	"strings"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// Readers reach the files that a file includes.
type Readers struct {
	Glob func(pattern string) ([]string, error)
	Read func(path string) ([]byte, error)
}

// Files may include each other as deep as in ssh, and not more files than people have.
const (
	maxIncludes = 16
	maxFiles    = 256
)

// flattener puts included files in their place, and leaves out blocks of Match whose
// conditions are known only when ssh connects.
type flattener struct {
	readers Readers
	note    func(format string, args ...any)
	files   int
	size    int
}

// file returns the text of a file without Include, and with Host as its only condition.
func (f *flattener) file(text, path string, depth int) string {
	var out strings.Builder
	block, skipping := "Host *", false
	for line := range strings.Lines(text) {
		keyword, rest := splitKeyword(line)
		switch keyword {
		case "host":
			// The library takes quotes for a part of the name.
			block = "Host " + strings.ReplaceAll(rest, `"`, "")
			skipping, line = false, block+"\n"
		case "match":
			var ok bool
			if block, ok = matchAsHost(rest); !ok {
				f.note("Match %s cannot be carried over: what stands below it is left out", rest)
				skipping = true
			} else {
				skipping, line = false, block+"\n"
			}
		case "include":
			if !skipping {
				out.WriteString(f.include(rest, path, depth) + "\n" + block + "\n")
			}
			continue
		}
		if skipping {
			line = "# " + strings.TrimLeft(line, "# \t")
		}
		out.WriteString(line)
	}
	return out.String()
}

// splitKeyword splits a line, whose words ssh separates by blanks or one equals sign.
func splitKeyword(line string) (keyword, rest string) {
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return strings.ToLower(line), ""
	}
	rest = strings.TrimLeft(line[end:], " \t")
	rest = strings.TrimSpace(strings.TrimPrefix(rest, "="))
	return strings.ToLower(line[:end]), rest
}

// matchAsHost returns the line of Host that a Match means, if there is one.
func matchAsHost(condition string) (line string, ok bool) {
	words := strings.Fields(condition)
	switch {
	case len(words) == 1 && strings.EqualFold(words[0], "all"):
		return "Host *", true
	case len(words) == 2 && (strings.EqualFold(words[0], "host") || strings.EqualFold(words[0], "originalhost")):
		return "Host " + strings.Join(strings.Split(words[1], ","), " "), true
	}
	return "", false
}

// include returns the text of the files that a line includes.
func (f *flattener) include(patterns, path string, depth int) string {
	var out strings.Builder
	for pattern := range strings.FieldsSeq(patterns) {
		pattern = sshhost.ExpandHome(strings.Trim(pattern, `"`))
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(path), pattern)
		}
		files, err := f.readers.Glob(pattern)
		if err != nil || len(files) == 0 || depth >= maxIncludes {
			f.note("Include %s: there is no such file, or it is nested too deeply", pattern)
			continue
		}
		for _, file := range files {
			text, err := f.readers.Read(file)
			f.size += len(text)
			if f.files++; err != nil || f.size > hosts.MaxFile || f.files > maxFiles {
				f.note("Include %s: it cannot be read, or what is included is too much", file)
				continue
			}
			out.WriteString(f.file(string(text), file, depth+1) + "\n")
		}
	}
	return out.String()
}
