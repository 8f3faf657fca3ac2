// Package ownership knows which targets the leading replica has not taken on, although it
// had the time: it neither holds them nor has said why it does not.
//
//	ledger := &ownership.Ledger{Client: client}
//	err := mgr.Add(ledger) // which starts it when the replica leads
//	ledger.Take(target.UID)
//	n, leads := ledger.Unowned(ctx)
//
// Trade-offs: a target that was taken on once stays so until it is deleted, because its
// connections live on whatever happens later; the conditions tell of that.
package ownership

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// Grace is how long a target may wait until it is taken on.
const Grace = 20 * time.Second

// Ledger is the targets that this replica has taken on. Client is required and must read
// from a cache. The methods are safe for concurrent use.
type Ledger struct {
	Client client.Reader

	mu    sync.Mutex
	taken map[types.UID]struct{}
	// began is when the replica began to lead; zero before.
	began time.Time
}

// Start implements manager.Runnable. It notes that the replica leads.
func (l *Ledger) Start(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
	return nil
}

// Take notes that it was decided about a target, and the decision was carried out.
func (l *Ledger) Take(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken == nil {
		l.taken = map[types.UID]struct{}{}
	}
	l.taken[uid] = struct{}{}
}

// Forget drops a target that does not exist any more.
func (l *Ledger) Forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.taken, uid)
}

// Unowned returns how many targets have waited for longer than the Grace. It is not known
// while the replica does not lead, or cannot read the targets.
func (l *Ledger) Unowned(ctx context.Context) (targets int, known bool) {
	var all v1alpha1.ConnectionTargetList
	if !l.leads() || l.Client.List(ctx, &all, client.UnsafeDisableDeepCopy) != nil {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	latest := time.Now().Add(-Grace)
	for i := range all.Items {
		target := &all.Items[i]
		_, taken := l.taken[target.UID]
		if !taken && target.DeletionTimestamp.IsZero() && target.CreationTimestamp.Time.Before(latest) && l.began.Before(latest) {
			targets++
		}
	}
	return targets, true
}

func (l *Ledger) leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.began.IsZero()
}
