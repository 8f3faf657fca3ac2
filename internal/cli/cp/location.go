package cp

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/connpool/connpool/internal/cli/cluster"
)

// standardStream is standard input as a source, and standard output as a
// destination.
const standardStream = "-"

// location is one side of a copy. Without a pool it is on this machine.
type location struct {
	pool, target, path string
}

func (l location) isRemote() bool { return l.pool != "" }

func (l location) isStream() bool { return !l.isRemote() && l.path == standardStream }

// sameTarget reports whether one sftp client reaches both.
func (l location) sameTarget(other location) bool {
	return l.pool == other.pool && l.target == other.target
}

func (l location) String() string {
	switch {
	case !l.isRemote():
		return l.path
	case l.target == "":
		return l.pool + ":" + l.path
	}
	return l.pool + "/" + l.target + ":" + l.path
}

// parseLocation reads [POOL[/TARGET]:]PATH. A text without a colon, or without
// valid names before its colon, is a file of this machine. So ./a:b always is.
func parseLocation(text string) location {
	local := location{path: text}
	names, path, ok := strings.Cut(text, ":")
	if !ok || filepath.VolumeName(text) != "" {
		return local
	}
	pool, target, hasTarget := strings.Cut(names, "/")
	if !cluster.IsName(pool) || hasTarget && !cluster.IsName(target) {
		return local
	}
	return location{pool: pool, target: target, path: fromHome(path)}
}

// fromHome makes a path relative to the user's home, where sftp begins. sftp does
// not know the ~ that users type.
func fromHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	switch {
	case path == "" || path == "~" || ok && strings.Trim(rest, "/") == "":
		return "."
	case ok:
		return strings.TrimLeft(rest, "/")
	}
	return path
}

// checkLocations refuses what cannot be copied.
func checkLocations(sources []location, destination location) error {
	for _, source := range sources {
		switch {
		case source.path == "" || destination.path == "":
			return errors.New("a path is empty: name a file")
		case source.isRemote() && destination.isRemote():
			return fmt.Errorf("both %s and %s are remote: copy to this machine first, and from here on", source, destination)
		case !source.isRemote() && !destination.isRemote():
			return fmt.Errorf("neither %s nor %s is remote: write POOL:PATH or POOL/TARGET:PATH for the remote side", source, destination)
		case !source.sameTarget(sources[0]):
			return fmt.Errorf("%s and %s are of different pools or targets: copy them one after the other", sources[0], source)
		case len(sources) > 1 && (source.isStream() || destination.isStream()):
			return errors.New("- takes exactly one file: name one source")
		}
	}
	return nil
}
