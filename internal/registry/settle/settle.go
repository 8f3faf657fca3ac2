// Package settle completes the place of a command once there is a connection, or asks for
// it with the names of what runs there.
//
//	place, err := settle.Place(ctx, u, root, lease, command.Place)
package settle

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/use"
)

// Place returns the place of a command on a lease, as the request names it, but for a
// Docker engine without a container: that is the only one that runs. Where there is none
// or a choice, and for a cluster without a pod, the request is refused with the names of
// what runs there, and the lease ends. Nothing has been started then. The fields of the
// request that name the place are below root.
func Place(ctx context.Context, u *use.Use, root *field.Path, lease poolset.Lease, place driver.Place) (driver.Place, error) {
	if place.Pod != "" {
		return place, nil
	}
	target, err := u.Gate.Config.Objects.Target(ctx, u.PoolName.Namespace, lease.Target.Name)
	if err != nil {
		return place, nil //nolint:nilerr // the driver says what it lacks
	}
	kind := target.Spec.Type()
	if kind == v1alpha1.TargetTypeSSH || kind == v1alpha1.TargetTypeDocker && place.Container != "" {
		return place, nil
	}
	found, err := list(ctx, lease, place.Namespace)
	if err == nil && kind == v1alpha1.TargetTypeDocker && len(found.Containers) == 1 && !found.More {
		place.Container = found.Containers[0].Name
		u.Place = place
		return place, nil
	}
	u.Gate.Config.Pools.Return(lease, err)
	at, thing := root.Child("container"), "container"
	if kind == v1alpha1.TargetTypeKubernetes {
		at, thing = root.Child("pod"), "pod"
	}
	return place, refusal.Invalid(field.ErrorList{field.Required(at, missing(thing, target.Name, found, err))})
}

// list lists what runs on a target.
func list(ctx context.Context, lease poolset.Lease, namespace string) (*inventory.Places, error) {
	lister, ok := lease.Conn().(inventory.Lister)
	if !ok {
		return new(inventory.Places), nil
	}
	return lister.List(ctx, inventory.ToOffer(namespace))
}

// missing asks for a container or pod, and offers those that run.
func missing(thing, target string, found *inventory.Places, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("name the %s; those that run on %s cannot be listed: %s", thing, target, driver.AsError(err).Message)
	case len(found.Names()) == 0 && thing == "pod":
		return "name the pod, and its namespace: none runs in this namespace of " + target
	case len(found.Names()) == 0:
		return "no container runs on " + target + "; start one"
	default:
		return fmt.Sprintf("name the %s; running on %s: %s", thing, target, found.Offer(""))
	}
}
