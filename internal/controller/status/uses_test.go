package status

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestASumNeverFallsWhenAPartLeaves(t *testing.T) {
	type parts = map[types.UID]int64
	var tallies Tallies
	for _, step := range []struct {
		what   string
		stored *int64
		parts  parts
		want   int64
	}{
		{"a new object", nil, parts{}, 0},
		{"two parts", nil, parts{"a": 3, "b": 4}, 7},
		{"one has left", nil, parts{"a": 5}, 9},
		{"it comes back from 0", nil, parts{"a": 5, "b": 1}, 10},
		{"a part begins again", nil, parts{"a": 1, "b": 1}, 11},
		{"none is left", nil, parts{}, 11},
	} {
		if got := tallies.Sum("pool", step.stored, step.parts); got != step.want {
			t.Errorf("%s: %d, want %d", step.what, got, step.want)
		}
	}
}

func TestASumGoesOnWhereAnEarlierProcessStoredIt(t *testing.T) {
	type parts = map[types.UID]int64
	tests := map[string]struct {
		stored, want int64
	}{
		"of it, 3 are of a part that has left":         {10, 10},
		"the parts were written later than the sum":    {6, 7},
		"the parts were written together with the sum": {7, 7},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var tallies Tallies
			if got := tallies.Sum("pool", &tc.stored, parts{"a": 3, "b": 4}); got != tc.want {
				t.Errorf("%d after the start, want %d", got, tc.want)
			}
			if got := tallies.Sum("pool", &tc.stored, parts{"a": 5, "b": 4}); got != tc.want+2 {
				t.Errorf("%d after 2 more, want %d", got, tc.want+2)
			}
		})
	}
}
