// Package tree is how far a tree of files is trusted that another machine lists: which
// names and links may stand in it, and how large it may get.
package tree

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// Bounds of a tree, so that the tree of a hostile server or container ends.
const (
	MaxEntries = 1_000_000
	MaxDepth   = 256
	// MaxPaths bounds the paths of all entries, in bytes: a path repeats those of
	// the directories above it.
	MaxPaths = 512 << 20
)

// Size is how large a tree is so far. Its zero value is ready.
type Size struct{ entries, paths int }

// Add counts one entry that is depth directories deep and keeps this many bytes of
// paths. It returns an error if the tree has become too large.
func (s *Size) Add(name string, depth, paths int) error {
	s.entries++
	s.paths += paths
	if s.entries > MaxEntries || depth > MaxDepth || s.paths > MaxPaths {
		return fmt.Errorf("%.200q has no end: after %d entries, %d directories deep", name, s.entries-1, depth)
	}
	return nil
}

// Keep counts further bytes that are kept, such as the target of a link.
func (s *Size) Keep(bytes int) { s.paths += bytes }

// IsPlainName reports whether a name stays in its directory.
func IsPlainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00"+string(os.PathSeparator))
}

// StaysInside reports whether the target of a link that is depth directories deep
// is in the same tree. It accepts .. only at the beginning of the target, because
// a .. behind a name leads elsewhere if that name is a link.
func StaysInside(target string, depth int) bool {
	if target == "" || path.IsAbs(target) || path.Clean(target) != strings.TrimSuffix(target, "/") {
		return false
	}
	up := 0
	for strings.HasPrefix(target, "../") || target == ".." {
		target = strings.TrimPrefix(strings.TrimPrefix(target, ".."), "/")
		up++
	}
	return up < depth
}
