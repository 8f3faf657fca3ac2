// Package location reads the two sides of a copy from a command line.
package location

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/connpool/connpool/internal/cli/cluster"
)

// standardStream is standard input as a source, and standard output as a destination.
const standardStream = "-"

// Location is one side of a copy. Without a pool it is on this machine.
type Location struct {
	Pool, Target string
	// Path as the user typed it; "." if there is none behind the colon.
	Path string
}

// IsRemote reports whether it is on a target.
func (l Location) IsRemote() bool { return l.Pool != "" }

// IsStream reports whether it is standard input or output.
func (l Location) IsStream() bool { return !l.IsRemote() && l.Path == standardStream }

// sameTarget reports whether both are on the same side.
func (l Location) sameTarget(other Location) bool {
	return l.Pool == other.Pool && l.Target == other.Target
}

// String returns the location as a user types it.
func (l Location) String() string {
	switch {
	case !l.IsRemote():
		return l.Path
	case l.Target == "":
		return l.Pool + ":" + l.Path
	}
	return l.Pool + "/" + l.Target + ":" + l.Path
}

// Parse reads [POOL[/TARGET]:]PATH. A text without a colon, or without
// valid names before its colon, is a file of this machine. So ./a:b always is.
func Parse(text string) Location {
	local := Location{Path: text}
	names, path, ok := strings.Cut(text, ":")
	if !ok || filepath.VolumeName(text) != "" {
		return local
	}
	pool, target, hasTarget := strings.Cut(cluster.PoolName(names), "/")
	if !cluster.IsName(pool) || hasTarget && !cluster.IsName(target) {
		return local
	}
	return Location{Pool: pool, Target: target, Path: cmp.Or(path, ".")}
}

// FromHome returns the location with a path relative to the user's home, where sftp
// begins. sftp does not know the ~ that users type.
func (l Location) FromHome() Location {
	rest, ok := strings.CutPrefix(l.Path, "~/")
	switch {
	case !l.IsRemote():
	case l.Path == "~" || ok && strings.Trim(rest, "/") == "":
		l.Path = "."
	case ok:
		l.Path = strings.TrimLeft(rest, "/")
	}
	return l
}

// Check refuses what cannot be copied.
func Check(sources []Location, destination Location) error {
	for _, source := range sources {
		switch {
		case source.Path == "" || destination.Path == "":
			return errors.New("a path is empty: name a file")
		case source.IsRemote() && destination.IsRemote():
			return fmt.Errorf("both %s and %s are remote: copy to this machine first, and from here on", source, destination)
		case !source.IsRemote() && !destination.IsRemote():
			return fmt.Errorf("neither %s nor %s is remote: write POOL:PATH or POOL/TARGET:PATH for the remote side", source, destination)
		case !source.sameTarget(sources[0]):
			return fmt.Errorf("%s and %s are of different pools or targets: copy them one after the other", sources[0], source)
		case len(sources) > 1 && (source.IsStream() || destination.IsStream()):
			return errors.New("- takes exactly one file: name one source")
		}
	}
	return nil
}
