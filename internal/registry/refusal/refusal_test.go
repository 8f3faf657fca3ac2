package refusal

import "testing"

func TestNeverMoreThanTenTargetsAreListed(t *testing.T) {
	if got := List([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}, 10); got != "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..." {
		t.Error(got)
	}
}
