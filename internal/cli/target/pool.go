package target

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/cli/target/change"
)

// newPool returns the pool to make where there is none. One that the user names has a
// label, so that other targets can join it.
func (o *addOptions) newPool(namespace string) *v1alpha1.ConnectionPool {
	if o.pool == "" {
		return sshhost.PoolOfOne(o.target.Name, namespace, o.target.Name)
	}
	o.addLabels(sshhost.PoolLabel(o.pool))
	return sshhost.PoolOfMany(o.pool, namespace)
}

func (o *addOptions) addLabels(labels map[string]string) {
	all := maps.Clone(labels)
	maps.Copy(all, o.target.Labels)
	o.target.Labels = all
}

func (o *addOptions) poolName() string { return cmp.Or(o.pool, o.target.Name) }

// joinPool returns the pool to make, or nil if there is one. It gives the target the
// labels by which that pool selects.
func (p *plan) joinPool(ctx context.Context) (*v1alpha1.ConnectionPool, error) {
	objects, err := p.Cluster.Objects()
	if err != nil {
		return nil, err
	}
	pool, err := objects.Pool(ctx, p.Namespace, p.poolName())
	if apierrors.IsNotFound(err) {
		p.byName = p.pool != ""
		return p.newPool(p.Namespace), nil
	}
	if err != nil {
		return nil, p.explain(ctx, err)
	}
	p.steps = append(p.steps, change.Change{Name: "connectionpool/" + pool.Name, State: change.Unchanged})
	if ref := pool.Spec.TargetRef; ref != nil {
		if ref.Name == p.target.Name {
			return nil, nil //nolint:nilnil // there is nothing to make
		}
		return nil, exit.Hint(fmt.Errorf("pool %s is for target %s alone", pool.Name, ref.Name),
			"Choose another pool with --pool, or give that one a targetSelector in place of its targetRef.")
	}
	p.byName = true
	p.addLabels(pool.Spec.TargetSelector.MatchLabels)
	if len(cluster.TargetsOf(pool, []v1alpha1.ConnectionTarget{*p.target.Object()})) == 0 {
		return nil, exit.Hint(fmt.Errorf("pool %s would not select the target", pool.Name),
			"It selects %s: give the target fitting --labels, or choose another pool with --pool.",
			metav1.FormatLabelSelector(pool.Spec.TargetSelector))
	}
	return nil, nil //nolint:nilnil // there is nothing to make
}
