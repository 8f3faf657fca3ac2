package version

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionNamesTheCommit(t *testing.T) {
	tests := map[string]struct {
		set, derived, revision, modified string
		want                             string
	}{
		"a release":                     {"v1.2.3", "v1.2.3", "0123456789abcdef", "false", "v1.2.3 (commit 0123456789ab)"},
		"a build with make":             {"0123456-dirty", "(devel)", "0123456789abcdef", "true", "0123456-dirty (commit 0123456789ab)"},
		"a plain build":                 {Unset, "v0.0.0-2026-0123", "0123456789abcdef", "false", "v0.0.0-2026-0123 (commit 0123456789ab)"},
		"a plain build with changes":    {"v1.2.3", "", "0123456789abcdef", "true", "v1.2.3 (commit 0123456789ab, with uncommitted changes)"},
		"a build with no git":           {Unset, "(devel)", "", "", Unset},
		"go install at a version":       {Unset, "v1.2.3", "", "", "v1.2.3"},
		"a release built without git":   {"v1.2.3", "(devel)", "", "", "v1.2.3"},
		"a commit that is named oddly":  {"v1.2.3", "", "0123", "false", "v1.2.3 (commit 0123)"},
		"changes that Go names already": {Unset, "v0.0.0+dirty", "0123456789abcdef", "true", "v0.0.0+dirty (commit 0123456789ab)"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			build := &debug.BuildInfo{Main: debug.Module{Version: tc.derived}, Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: tc.revision}, {Key: "vcs.modified", Value: tc.modified},
			}}
			if got := describe(tc.set, build); got != tc.want {
				t.Errorf("describe returned %q, want %q", got, tc.want)
			}
		})
	}
}
