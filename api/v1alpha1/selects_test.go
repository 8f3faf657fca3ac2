package v1alpha1

import (
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSelects(t *testing.T) {
	byName := ConnectionPoolSpec{TargetRef: &TargetRef{Name: "web-1"}}
	byLabel := ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
	invalid := ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like", Values: []string{"web"}}},
	}}
	tests := map[string]struct {
		spec   ConnectionPoolSpec
		change func(*ConnectionPool, *ConnectionTarget)
		// want is whether the pool selects the target, matches whether it asks for it.
		want, matches bool
	}{
		"a target with the name in targetRef":              {spec: byName, want: true, matches: true},
		"a target with the labels that targetSelector has": {spec: byLabel, want: true, matches: true},
		"no target with another name than targetRef": {
			spec: byName, change: func(_ *ConnectionPool, target *ConnectionTarget) { target.Name = "web-2" },
		},
		"no target with another label than targetSelector": {
			spec: byLabel, change: func(_ *ConnectionPool, target *ConnectionTarget) { target.Labels["app"] = "db" },
		},
		"no target without labels": {
			spec: byLabel, change: func(_ *ConnectionPool, target *ConnectionTarget) { target.Labels = nil },
		},
		"no target of another namespace": {
			spec: byName, change: func(_ *ConnectionPool, target *ConnectionTarget) { target.Namespace = "other" },
		},
		"no target while the pool is being deleted": {
			spec: byName, change: func(pool *ConnectionPool, _ *ConnectionTarget) { pool.DeletionTimestamp = new(metav1.Now()) },
			matches: true,
		},
		"no target that is being deleted": {
			spec: byLabel, change: func(_ *ConnectionPool, target *ConnectionTarget) { target.DeletionTimestamp = new(metav1.Now()) },
			matches: true,
		},
		"no target if targetSelector is invalid":         {spec: invalid},
		"no target without targetRef and targetSelector": {},
	}
	for name, tc := range tests {
		t.Run("a pool selects "+name, func(t *testing.T) {
			pool := &ConnectionPool{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: tc.spec}
			target := &ConnectionTarget{ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "web-1", Labels: map[string]string{"app": "web"},
			}}
			if tc.change != nil {
				tc.change(pool, target)
			}
			if got := pool.Selects(target); got != tc.want {
				t.Errorf("Selects = %t, want %t", got, tc.want)
			}
			if got := pool.Matches(target); got != tc.matches {
				t.Errorf("Matches = %t, want %t", got, tc.matches)
			}
		})
	}
}

// Each change of one of 8,000 targets is a question to each of 100 pools.
func TestAPoolWithLabelsIsAskedWithoutAllocations(t *testing.T) {
	pool := &ConnectionPool{Spec: ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web", "tier": "1"}}}}
	for labels, want := range map[*map[string]string]bool{
		{"app": "web", "tier": "1", "os": "linux"}: true,
		{"app": "web", "tier": "2"}:                false,
		{"app": "web"}:                             false,
	} {
		target := &ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Labels: *labels}}
		got := false
		allocations := testing.AllocsPerRun(100, func() { got = pool.Selects(target) })
		if allocations > 0 || got != want {
			t.Errorf("%v: Selects = %t with %v allocations, want %t with none", *labels, got, allocations, want)
		}
	}
}

func BenchmarkSelects(b *testing.B) {
	pools := make([]ConnectionPool, 100)
	for i := range pools {
		pools[i].Spec.TargetSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"group": strconv.Itoa(i)}}
	}
	target := &ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"group": "50", "name": "web-1"}}}
	b.ReportAllocs()
	for b.Loop() {
		for i := range pools {
			pools[i].Selects(target)
		}
	}
}

func TestSelectorSaysThatTargetSelectorIsInvalid(t *testing.T) {
	pool := &ConnectionPool{Spec: ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like"}},
	}}}
	if _, err := pool.Selector(); err == nil {
		t.Error("Selector returned no error")
	}
}
