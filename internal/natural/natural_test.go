package natural

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesAreOrderedAsPeopleCount(t *testing.T) {
	want := []string{"a", "a-2", "farm", "farm-1", "farm-1-b", "farm-02", "farm-2", "farm-2b", "farm-10", "farm-18446744073709551616", "web"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Compare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
