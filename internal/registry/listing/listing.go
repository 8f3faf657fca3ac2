// Package listing lists what commands through a pool can name: its targets, and the
// containers or pods of one of them.
//
//	status, err := listing.List(ctx, u, &object.Spec)
//
// Targets come from the cache. Containers and pods are read over a leased connection, as
// a use of the pool like any other, with the credentials of the pool. What is held of
// them counts as output until the answer is made.
//
// Trade-offs: a list is one page. A user of more narrows it down with a selector.
package listing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
)

// List answers a listing of an admitted use. An error is a refusal.
func List(ctx context.Context, u *use.Use, spec *live.ListingSpec) (*live.ListingStatus, error) {
	u.Listing, u.Target, u.Place.Namespace = string(spec.Of), spec.Target, spec.Namespace
	if problems := validateSpec(spec); len(problems) > 0 {
		return nil, refusal.Invalid(problems)
	}
	if spec.Of == live.ListTargets {
		return targets(ctx, u, spec)
	}
	return places(ctx, u, spec)
}

var root = field.NewPath("spec")

func validateSpec(spec *live.ListingSpec) (problems field.ErrorList) {
	forbid := func(name string, is bool, why string) {
		if is {
			problems = append(problems, field.Forbidden(root.Child(name), why))
		}
	}
	kinds := []live.ListingOf{live.ListTargets, live.ListContainers, live.ListPods}
	if !slices.Contains(kinds, spec.Of) {
		return field.ErrorList{field.NotSupported(root.Child("of"), live.ListingOf(driver.Sanitize(string(spec.Of))), kinds)}
	}
	if spec.Of != live.ListPods {
		forbid("namespace", spec.Namespace != "", "only pods have a namespace in their cluster; leave it out")
		forbid("allNamespaces", spec.AllNamespaces, "only pods have a namespace in their cluster; leave it out")
	}
	forbid("target", spec.Of == live.ListTargets && spec.Target != "", "all targets of the pool are listed; leave it out")
	forbid("selector", spec.Of == live.ListContainers && spec.Selector != "", "containers are not selected by labels; leave it out")
	forbid("allNamespaces", spec.AllNamespaces && spec.Namespace != "", "set either namespace or allNamespaces")
	problems = append(problems, validate.Name(root.Child("namespace"), spec.Namespace, validation.IsDNS1123Label)...)
	if _, err := labels.Parse(spec.Selector); err != nil {
		problems = append(problems, field.Invalid(root.Child("selector"), driver.Sanitize(spec.Selector),
			"is not a label selector such as app=web: "+driver.Sanitize(err.Error())))
	}
	if spec.Limit < 0 || spec.Limit > live.MaxListingLimit {
		problems = append(problems, field.Invalid(root.Child("limit"), spec.Limit,
			fmt.Sprintf("must be between 1 and %d, or 0 for the default", live.MaxListingLimit)))
	}
	return problems
}

func limitOf(spec *live.ListingSpec) int { return int(cmp.Or(spec.Limit, live.DefaultListingLimit)) }

// targets lists those of the pool, which needs no connection.
func targets(ctx context.Context, u *use.Use, spec *live.ListingSpec) (*live.ListingStatus, error) {
	members, err := u.Members(ctx)
	if err != nil {
		return nil, err
	}
	selected, _ := labels.Parse(spec.Selector) // it is valid
	status := new(live.ListingStatus)
	for i := range members {
		if !selected.Matches(labels.Set(members[i].Labels)) {
			continue
		}
		if len(status.Targets) == limitOf(spec) {
			status.Truncated = true
			break
		}
		status.Targets = append(status.Targets, listedTarget(&members[i]))
	}
	u.Audit("targets listed", "count", len(status.Targets))
	return status, nil
}

func listedTarget(target *v1alpha1.ConnectionTarget) live.ListedTarget {
	listed := live.ListedTarget{Name: target.Name, Type: string(target.Spec.Type()), Reason: v1alpha1.ReasonPending}
	if ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		listed.Ready, listed.Reason = ready.Status == metav1.ConditionTrue, ready.Reason
	}
	if listed.Ready {
		listed.Reason = ""
	}
	return listed
}

// cost is how many bytes a list of places holds at most: an entry as it is read, what is
// kept of all, and its JSON.
const cost = 2*inventory.MaxEntry + 3*live.MaxListingBytes

// places lists containers or pods, on a lease.
func places(ctx context.Context, u *use.Use, spec *live.ListingSpec) (*live.ListingStatus, error) {
	if full := u.Gate.Memory.Output.Take(u.Owner(), cost); full != quota.Free {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "", fmt.Sprintf(
			"the operator is holding too much output for other commands of %s; try again later", full))
	}
	defer u.Gate.Memory.Output.Add(u.Owner(), -cost)
	route, err := u.Route(ctx, root.Child("target"), spec.Target)
	if err != nil {
		return nil, err
	}
	lease, err := u.Lease(ctx, route, fits(spec))
	if err != nil {
		return nil, err
	}
	info, began := route.LeaseInfo(lease), time.Now()
	found, err := read(ctx, lease, spec)
	u.Gate.Config.Pools.Return(lease, err)
	if err != nil {
		return nil, unlisted(spec, info.Target, err)
	}
	u.AuditStarted(info, nil, new(traffic.Bytes))
	u.AuditEnded(&use.Result{Lease: info, Duration: time.Since(began), Outcome: live.OutcomeCompleted}, new(traffic.Bytes))
	status := statusOf(found)
	status.Target, status.Connection = info.Target, info.Connection
	return status, nil
}

func read(ctx context.Context, lease poolset.Lease, spec *live.ListingSpec) (*inventory.Places, error) {
	lister, ok := lease.Conn().(inventory.Lister)
	if !ok {
		return nil, &driver.Error{Reason: driver.ProtocolError, Message: "targets of this kind list nothing; choose another target"}
	}
	return lister.List(ctx, inventory.Query{
		Namespace: spec.Namespace, AllNamespaces: spec.AllNamespaces, Selector: spec.Selector, All: spec.All,
		Limit: limitOf(spec), MaxBytes: live.MaxListingBytes,
	})
}

// fits returns a function that says whether a target has what is to be listed.
func fits(spec *live.ListingSpec) use.Fit {
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		kind := target.Spec.Type()
		subject := validate.OfType(target.Name, kind)
		switch {
		case spec.Of == live.ListContainers && kind == v1alpha1.TargetTypeKubernetes:
			return field.ErrorList{field.Forbidden(root.Child("of"), subject+", whose containers are those of its pods; list the pods")}
		case spec.Of == live.ListContainers && kind != v1alpha1.TargetTypeDocker:
			return field.ErrorList{field.Forbidden(root.Child("of"), subject+", which has no containers; choose a target of type docker")}
		case spec.Of == live.ListPods && kind != v1alpha1.TargetTypeKubernetes:
			return field.ErrorList{field.Forbidden(root.Child("of"), subject+", which has no pods; choose a target of type kubernetes")}
		}
		return nil
	}
}

// unlisted refuses a list that the target did not give. A failure that the request may have
// caused is a 400.
func unlisted(spec *live.ListingSpec, target string, err error) error {
	failure, with := driver.AsError(err), refusal.Unavailable
	if slices.Contains([]driver.Reason{driver.ProtocolError, driver.NotFound, driver.Forbidden}, failure.Reason) {
		with = refusal.BadRequest
	}
	return refusal.NotStarted(with, string(failure.Reason), fmt.Sprintf(
		"the %s of target %s cannot be listed: %s", strings.ToLower(string(spec.Of)), target, failure.Message))
}

func statusOf(found *inventory.Places) *live.ListingStatus {
	status := &live.ListingStatus{Truncated: found.More}
	for _, c := range found.Containers {
		status.Containers = append(status.Containers, live.ListedContainer{
			Name: c.Name, ID: c.ID, Image: c.Image, State: c.State, Status: c.Status, CreationTime: timeOf(c.Created),
		})
	}
	for _, p := range found.Pods {
		status.Pods = append(status.Pods, live.ListedPod{
			Name: p.Name, Namespace: p.Namespace, Phase: p.Phase, Containers: p.Containers,
			ContainerCount: int32(p.Total), ReadyCount: int32(p.Ready), Node: p.Node, CreationTime: timeOf(p.Created),
		})
	}
	return status
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t}
}
