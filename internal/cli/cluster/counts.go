package cluster

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// countsTimeout bounds how long the figures of this moment may take. Without them, a
// command shows stored ones.
const countsTimeout = 5 * time.Second

// Counts are the figures of pools at one moment, of each target.
type Counts map[types.NamespacedName][]livev1alpha1.ConnectionCounts

// LiveCounts reads the figures of a pool, or of all if it is "", in one request. They
// come with the first page of the list of connections.
func LiveCounts(ctx context.Context, live *client.Client, namespace, pool string) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	options := metav1.ListOptions{Limit: 1}
	if pool != "" {
		options.FieldSelector = fields.OneTermEqualSelector(livev1alpha1.FieldPool, pool).String()
	}
	list, err := live.Connections(ctx, namespace, options)
	switch {
	case err != nil:
		return nil, err
	case len(list.Counts) == 0 && len(list.Items) > 0:
		return nil, errors.New("the operator is older than this program, and does not count connections")
	}
	counts := Counts{}
	for _, c := range list.Counts {
		key := types.NamespacedName{Namespace: c.Namespace, Name: c.Pool}
		counts[key] = append(counts[key], c)
	}
	return counts, nil
}

// SumOf adds up the figures of targets. The oldest connection is the oldest of all.
func SumOf(counts []livev1alpha1.ConnectionCounts) (sum livev1alpha1.ConnectionCounts) {
	for i := range counts {
		c := &counts[i]
		sum.Desired += c.Desired
		sum.Warm += c.Warm
		sum.InUse += c.InUse
		sum.Dialing += c.Dialing
		sum.Draining += c.Draining
		sum.UseCount += c.UseCount
		if c.OldestConnectionTime != nil && (sum.OldestConnectionTime == nil || c.OldestConnectionTime.Before(sum.OldestConnectionTime)) {
			sum.OldestConnectionTime = c.OldestConnectionTime
		}
		sum.LastUsedTime = Later(sum.LastUsedTime, c.LastUsedTime)
	}
	return sum
}

// Later returns the later one of two times, of which either may be nil.
func Later(a, b *metav1.Time) *metav1.Time {
	if a == nil || a.Before(b) {
		return b
	}
	return a
}
