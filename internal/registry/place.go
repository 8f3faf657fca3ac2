package registry

import (
	"context"
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// fitFunc says what of a request does not fit a target, mostly its type.
type fitFunc func(*v1alpha1.ConnectionTarget) field.ErrorList

// acquireFit leases a connection to a target that the request fits. What does not
// fit is refused before the lease when the pool or the request names the target,
// and after it when the pools have chosen one.
func (c *call) acquireFit(ctx context.Context, to route, fit fitFunc) (poolset.Lease, error) {
	target := c.declaredTarget(ctx, to)
	if target == nil {
		return c.acquireAny(ctx, to, fit)
	}
	if problems := fit(target); len(problems) > 0 {
		if !to.pool.Selects(target) {
			return poolset.Lease{}, c.absent(ctx, to)
		}
		return poolset.Lease{}, invalid(problems)
	}
	return c.acquire(ctx, to)
}

// declaredTarget is the only target that a request can mean; nil when there are
// several, or none can be read.
func (c *call) declaredTarget(ctx context.Context, to route) *v1alpha1.ConnectionTarget {
	ref := to.pool.Spec.TargetRef
	if to.target != nil || ref == nil {
		return to.target
	}
	target, err := c.Objects.Target(ctx, c.pool.namespace, ref.Name)
	if err != nil {
		return nil
	}
	return target
}

// acquireAny leases a connection to the target that the pools choose, and gives it
// back when the request does not fit there.
func (c *call) acquireAny(ctx context.Context, to route, fit fitFunc) (poolset.Lease, error) {
	lease, err := c.acquire(ctx, to)
	if err != nil {
		return lease, err
	}
	target, err := c.Objects.Target(ctx, c.pool.namespace, lease.Target.Name)
	if err != nil || string(target.UID) != lease.Target.UID {
		lease.Release()
		return poolset.Lease{}, refusedBeforeStart(unavailable, "", fmt.Sprintf(
			"target %s was deleted or cannot be read now; try again", lease.Target.Name))
	}
	if problems := fit(target); len(problems) > 0 {
		lease.Release()
		return poolset.Lease{}, invalid(problems)
	}
	return lease, nil
}

// fitPlace says whether a target has such a place. Its fields are below root.
func fitPlace(root *field.Path, place driver.Place) fitFunc {
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		switch target.Spec.Type() {
		case v1alpha1.TargetTypeDocker:
			return validateInEngine(root, target.Name, place)
		case v1alpha1.TargetTypeKubernetes:
			return validateInCluster(root, target.Name, place)
		default:
			return validateOnHost(root, target.Name, place)
		}
	}
}

// fitCommand is fitPlace for commands, of which only ssh has subsystems.
func fitCommand(root *field.Path, place driver.Place, subsystem string) fitFunc {
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		problems := fitPlace(root, place)(target)
		if kind := target.Spec.Type(); subsystem != "" && kind != v1alpha1.TargetTypeSSH {
			problems = append(problems, field.Forbidden(child(root, "subsystem"),
				typed(target.Name, kind)+", which has no subsystems; run a program with command"))
		}
		return problems
	}
}

func typed(target string, kind v1alpha1.TargetType) string {
	return fmt.Sprintf("target %s is of type %s", target, kind)
}

const maxNameLength = 253

// containerName is what Docker calls a name; an ID is one, too.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func validateInEngine(root *field.Path, target string, place driver.Place) field.ErrorList {
	at := child(root, "container")
	subject := typed(target, v1alpha1.TargetTypeDocker)
	problems := forbidPod(root, subject+", which has no pods; name a container instead", place)
	switch {
	case place.Container == "":
		problems = append(problems, field.Required(at, subject+": name the container, or give its ID"))
	case len(place.Container) > maxNameLength:
		problems = append(problems, field.TooLong(at, "", maxNameLength))
	case !containerName.MatchString(place.Container):
		problems = append(problems, field.Invalid(at, plain(place.Container),
			"must be the name or ID of a container: letters, digits, _, . and -, of which the first is a letter or digit"))
	}
	return problems
}

func validateInCluster(root *field.Path, target string, place driver.Place) field.ErrorList {
	var problems field.ErrorList
	if place.Pod == "" {
		problems = append(problems, field.Required(child(root, "pod"),
			typed(target, v1alpha1.TargetTypeKubernetes)+": name the pod, and its namespace if it is not that of the target"))
		return problems
	}
	problems = append(problems, validateName(child(root, "pod"), place.Pod, validation.IsDNS1123Subdomain)...)
	problems = append(problems, validateName(child(root, "namespace"), place.Namespace, validation.IsDNS1123Label)...)
	return append(problems, validateName(child(root, "container"), place.Container, validation.IsDNS1123Label)...)
}

// validateName checks an optional name of something in a cluster.
func validateName(at *field.Path, name string, check func(string) []string) (problems field.ErrorList) {
	if name == "" {
		return nil
	}
	for _, rule := range check(name) {
		problems = append(problems, field.Invalid(at, plain(name), rule))
	}
	return problems
}

func validateOnHost(root *field.Path, target string, place driver.Place) field.ErrorList {
	subject := typed(target, v1alpha1.TargetTypeSSH)
	problems := forbidPod(root, subject+", which has no pods; leave it out", place)
	if place.Container != "" {
		problems = append(problems, field.Forbidden(child(root, "container"), subject+", which has no containers; leave it out"))
	}
	return problems
}

func forbidPod(root *field.Path, why string, place driver.Place) (problems field.ErrorList) {
	if place.Pod != "" {
		problems = append(problems, field.Forbidden(child(root, "pod"), why))
	}
	if place.Namespace != "" {
		problems = append(problems, field.Forbidden(child(root, "namespace"), why))
	}
	return problems
}
