package quota

import "testing"

func TestAQuotaBoundsEachUserAndAll(t *testing.T) {
	q := New(10, 6)
	for _, step := range []struct {
		user  string
		bytes int64
		want  bool
	}{
		{"ann", 6, true}, {"ann", 1, false}, {"bob", 5, false}, {"bob", 4, true}, {"cat", 1, false}, {"cat", 0, true},
	} {
		if got := q.Take(step.user, step.bytes); got != step.want {
			t.Errorf("%s takes %d: %t", step.user, step.bytes, got)
		}
	}
	q.Add("bob", 3)
	q.Add("ann", -6)
	if q.Take("cat", 4) || !q.Take("cat", 3) {
		t.Error("what was added beyond the bound does not count")
	}
	q.Add("bob", -7)
	q.Add("cat", -3)
	if q.bytes != 0 || len(q.users) != 0 {
		t.Errorf("%d bytes of %v are left", q.bytes, q.users)
	}
}
