package quota

import "testing"

func TestAQuotaBoundsEachUserAndAll(t *testing.T) {
	q := New(Bounds{All: 10, User: 6})
	ann, bob, cat := Owner{User: "ann"}, Owner{User: "bob"}, Owner{User: "cat"}
	for _, step := range []struct {
		owner Owner
		n     int64
		want  Full
	}{
		{ann, 6, Free}, {ann, 1, OfUser}, {bob, 5, OfAll}, {bob, 4, Free}, {cat, 1, OfAll}, {cat, 0, Free},
	} {
		if got := q.Take(step.owner, step.n); got != step.want {
			t.Errorf("%s takes %d: %q", step.owner.User, step.n, got)
		}
	}
	q.Add(bob, 3)
	q.Add(ann, -6)
	if q.Take(cat, 4) != OfAll || q.Take(cat, 3) != Free {
		t.Error("what was added beyond the bound does not count")
	}
	q.Add(bob, -7)
	q.Add(cat, -3)
	if q.taken != 0 || len(q.users) != 0 || len(q.namespaces) != 0 {
		t.Errorf("%d of %v and %v are left", q.taken, q.users, q.namespaces)
	}
}

func TestManyUsersOfANamespaceLeaveTheSharesOfOthers(t *testing.T) {
	q := New(Of(800, 1.0/8))
	took := int64(0)
	for _, user := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		for q.Take(Owner{"tenant", user}, 1) == Free {
			took++
		}
	}
	if took != 400 {
		t.Errorf("the users of one namespace took %d of 800, want half", took)
	}
	for _, other := range []string{"kube-system", "team-a", "team-b", "team-c"} {
		if full := q.Take(Owner{other, "user of " + other}, 100); full != Free {
			t.Errorf("namespace %s has no share: %s", other, full)
		}
		if full := q.Take(Owner{other, "other user of " + other}, 1); full != OfNamespace {
			t.Errorf("namespace %s took more than its share: %q", other, full)
		}
	}
}

func TestWithoutBoundsEverythingIsFree(t *testing.T) {
	if full := New(Bounds{}).Take(Owner{}, 1<<60); full != Free {
		t.Error(full)
	}
}

func TestWhatIsSpareLeavesTheSecondHalf(t *testing.T) {
	q := New(Bounds{All: 100, User: 40, Namespace: 50})
	ann := Owner{"team", "ann"}
	took := 0
	for q.TakeSpare(ann, 1) == Free {
		took++
	}
	if took != 20 || q.Take(ann, 20) != Free || q.TakeSpare(Owner{"other", "bob"}, 10) != Free {
		t.Errorf("ann took %d of 40", took)
	}
	if New(Bounds{}).TakeSpare(ann, 1<<60) != Free {
		t.Error("half of no bound is one")
	}
}
