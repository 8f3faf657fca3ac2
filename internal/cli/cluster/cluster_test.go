package cluster

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/connpool/connpool/internal/cli/exit"
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
	New("connpool", "", io.Discard).Register(flags)
	for _, name := range rareFlags {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}

func TestARoleIsProposedOnlyWhereItHelps(t *testing.T) {
	for why, want := range map[string]bool{
		`User "alice" cannot create resource "sessions/exec" in API group "live.connpool.dev" in the namespace "team"`: true,
		"only its creator may use a session; create one of your own":                                                   false,
	} {
		err := apierrors.NewForbidden(schema.GroupResource{Group: "live.connpool.dev", Resource: "sessions"}, "s-1", errors.New(why))
		hint := exit.HintOf((&Cluster{}).Explain(t.Context(), err, Asked{Resource: "sessions/exec", Verbs: []string{"create"}, Namespace: "team"}))
		if proposed := strings.Contains(hint, "kind: Role"); proposed != want {
			t.Errorf("%s: the hint is %q", why, hint)
		}
	}
}
