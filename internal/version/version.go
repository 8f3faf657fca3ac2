// Package version says which version of connpool a program is, and from which
// commit it was built. A build with make has the version from git's tags; any other
// build from a checkout has the version that Go derives from the commit.
package version

import (
	"runtime/debug"
	"strings"
)

// Unset is the version of a program whose build set none.
const Unset = "dev"

// Of returns the version of this program for people: the version that its build
// set, or what Go derived if that is Unset, and the commit.
func Of(set string) string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return set
	}
	return describe(set, build)
}

func describe(set string, build *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range build.Settings {
		settings[s.Key] = s.Value
	}
	if set == Unset && build.Main.Version != "" && build.Main.Version != "(devel)" {
		set = build.Main.Version
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return set
	}
	// As long as in the versions that Go derives.
	commit := " (commit " + revision[:min(12, len(revision))]
	if settings["vcs.modified"] == "true" && !strings.HasSuffix(set, "dirty") {
		commit += ", with uncommitted changes"
	}
	return set + commit + ")"
}
