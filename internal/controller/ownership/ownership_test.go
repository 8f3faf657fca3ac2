package ownership

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// targets is a cache of targets.
type targets struct {
	client.Reader

	all []v1alpha1.ConnectionTarget
}

func (t targets) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.ConnectionTargetList).Items = t.all
	return nil
}

// created returns targets of these ages.
func created(ages ...time.Duration) (all targets) {
	for n, age := range ages {
		all.all = append(all.all, v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{
			UID: types.UID(strconv.Itoa(n)), CreationTimestamp: metav1.NewTime(time.Now().Add(-age)),
		}})
	}
	return all
}

func TestATargetIsUnownedIfTheLeaderHasNotTakenItOnInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Ledger{Client: created(time.Hour, time.Hour, 0)}
		if _, known := l.Unowned(t.Context()); known {
			t.Error("a replica that does not lead knows how many are unowned")
		}
		if err := l.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := func(most int, when string) {
			t.Helper()
			if n, known := l.Unowned(t.Context()); n != most || !known {
				t.Errorf("%s: %d unowned (known: %t), want %d", when, n, known, most)
			}
		}
		want(0, "just after it has begun to lead")
		l.Take("0")
		time.Sleep(Grace + time.Second)
		want(2, "after the grace")
		l.Take("1")
		l.Take("2")
		want(0, "when all are taken on")
		l.Forget("2")
		want(1, "when one is to be taken on again")
	})
}

func TestADeletedTargetIsNotUnowned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := created(time.Hour)
		all.all[0].DeletionTimestamp = new(metav1.Now())
		l := &Ledger{Client: all}
		_ = l.Start(t.Context())
		time.Sleep(time.Hour)
		if n, _ := l.Unowned(t.Context()); n != 0 {
			t.Errorf("%d unowned", n)
		}
	})
}

func BenchmarkUnowned(b *testing.B) {
	ages := make([]time.Duration, 10_000)
	l := &Ledger{Client: created(ages...)}
	_ = l.Start(b.Context())
	for n := range ages {
		l.Take(types.UID(strconv.Itoa(n)))
	}
	for b.Loop() {
		_, _ = l.Unowned(b.Context())
	}
}
