package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestNearestNames(t *testing.T) {
	known := []string{"web", "web-canary", "db", "build", "worker"}
	tests := map[string]struct {
		word string
		want []string
	}{
		"one letter is wrong":       {"wep", []string{"web"}},
		"the beginning is there":    {"web-c", []string{"web", "web-canary"}},
		"nothing is like it":        {"zzzzzz", []string{}},
		"a letter is missing":       {"buld", []string{"build"}},
		"two letters are swapped":   {"wokrer", []string{"worker"}},
		"an empty word means all 3": {"", []string{"build", "db", "web"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, nearest(test.word, known)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRareFlagsAreThere(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	New("connpool", "").Register(flags)
	for _, name := range rareFlags {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}
