// Package watched is which namespaces the operator watches, and whether it may.
//
//	namespaces, err := watched.New(config, names) // none for the whole cluster
//	cache.DefaultNamespaces = namespaces.Cache()
//	cache.NewInformer = watched.NewInformer
//	mgr.Add(namespaces)
//	...
//	reason, message := namespaces.Problem("prod") // both empty if it is served
//
// An operator that watches a list of namespaces has a Role in each and no right to read
// pools, targets or Secrets elsewhere. A Role can be missing, because the namespace does not
// exist yet or was forgotten. Then that namespace is not served, the log says which right
// is missing, and the others are served. The namespace is served some seconds after it got
// its Role, without a restart.
//
// Trade-offs: controller-runtime's cache counts as filled only when it has read every
// namespace, so NewInformer lets a namespace that may not be read count as empty until it
// may be.
package watched

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/log"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

const (
	// reviewPeriod is how often kube-apiserver is asked for rights that were missing.
	reviewPeriod = 10 * time.Second
	// reviewTimeout bounds the questions about one namespace.
	reviewTimeout = 10 * time.Second
)

// right is one that the operator needs in each namespace that it watches. Without one of
// those to read, it cannot serve the namespace.
type right struct {
	verb, group, resource, subresource string
	reads                              bool
}

// String returns the right as kubectl auth can-i takes it.
func (r right) String() string {
	resource := r.resource
	if r.group != "" {
		resource += "." + r.group
	}
	if r.subresource != "" {
		resource += "/" + r.subresource
	}
	return r.verb + " " + resource
}

// needed are the rights without which the operator does not work, or writes no status. The
// role in config/namespaced has them, and get, which comes with them.
var needed = []right{
	{verb: "list", group: v1alpha1.GroupName, resource: "connectionpools", reads: true},
	{verb: "watch", group: v1alpha1.GroupName, resource: "connectionpools", reads: true},
	{verb: "list", group: v1alpha1.GroupName, resource: "connectiontargets", reads: true},
	{verb: "watch", group: v1alpha1.GroupName, resource: "connectiontargets", reads: true},
	{verb: "list", resource: "secrets", reads: true},
	{verb: "watch", resource: "secrets", reads: true},
	{verb: "list", resource: "configmaps", reads: true},
	{verb: "watch", resource: "configmaps", reads: true},
	{verb: "patch", group: v1alpha1.GroupName, resource: "connectionpools", subresource: "status"},
	{verb: "patch", group: v1alpha1.GroupName, resource: "connectiontargets", subresource: "status"},
}

// Namespaces are those that the operator watches. It is safe for concurrent use.
type Namespaces struct {
	names   []string // sorted; none for the whole cluster
	reviews authorizationclient.SelfSubjectAccessReviewInterface

	mu sync.Mutex // guards missing
	// missing has the rights that a namespace lacks, once kube-apiserver has said so.
	missing map[string][]right
}

// New returns the namespaces of those names, or all namespaces if there are none.
func New(config *rest.Config, names []string) (*Namespaces, error) {
	client, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for access reviews: %w", err)
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return &Namespaces{
		names: slices.Compact(names), reviews: client.SelfSubjectAccessReviews(), missing: map[string][]right{},
	}, nil
}

// Cache returns what a cache reads: nil for the whole cluster.
func (n *Namespaces) Cache() map[string]cache.Config {
	if len(n.names) == 0 {
		return nil
	}
	configs := make(map[string]cache.Config, len(n.names))
	for _, name := range n.names {
		configs[name] = cache.Config{}
	}
	return configs
}

// Problem returns why a namespace is not served: a reason of the live API, and a sentence
// with the next step. Both are empty if it is served. Neither tells which others are watched.
func (n *Namespaces) Problem(namespace string) (reason, message string) {
	if len(n.names) == 0 || namespace == "" {
		return "", ""
	}
	if _, found := slices.BinarySearch(n.names, namespace); !found {
		return live.ReasonNamespaceNotWatched, fmt.Sprintf("the operator does not watch namespace %s, so pools there are not served; "+
			"use a namespace that it watches, or ask its administrator to add this one to --watch-namespaces", namespace)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if lacking := n.missing[namespace]; slices.ContainsFunc(lacking, func(r right) bool { return r.reads }) {
		return live.ReasonNamespaceNotReadable, fmt.Sprintf("the operator watches namespace %s, but may not %s there, so pools there "+
			"are not served; ask its administrator to give it the Role of config/namespaced in this namespace", namespace, join(lacking))
	}
	return "", ""
}

// Review asks kube-apiserver which rights are missing, and logs what has changed.
func (n *Namespaces) Review(ctx context.Context) {
	for _, name := range n.names {
		n.review(ctx, name)
	}
}

// Start implements manager.Runnable. It asks for missing rights until all are there.
func (n *Namespaces) Start(ctx context.Context) error {
	_ = wait.PollUntilContextCancel(ctx, reviewPeriod, true, func(ctx context.Context) (done bool, err error) {
		lacking := n.lacking()
		for _, name := range lacking {
			n.review(ctx, name)
		}
		return len(lacking) == 0, nil
	})
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (n *Namespaces) NeedLeaderElection() bool { return false }

// lacking returns the namespaces that lack rights, or of which it is not known.
func (n *Namespaces) lacking() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range n.names {
		if missing, known := n.missing[name]; !known || len(missing) > 0 {
			names = append(names, name)
		}
	}
	return names
}

func (n *Namespaces) review(ctx context.Context, namespace string) {
	logger := log.FromContext(ctx).WithName("watched").WithValues("namespace", namespace)
	found, err := n.ask(ctx, namespace)
	if err != nil {
		logger.Error(err, "Find out what the operator may do in a namespace that it watches")
		return
	}
	n.mu.Lock()
	before := n.missing[namespace]
	n.missing[namespace] = found
	n.mu.Unlock()
	switch {
	case slices.Equal(before, found):
	case len(found) == 0:
		logger.Info("The operator has all rights in the namespace now")
	default:
		logger.Info("The operator lacks rights in a namespace that it watches; other namespaces are served. "+
			"Give it the Role of config/namespaced there, or take the namespace out of --watch-namespaces", "missing", join(found))
	}
}

// ask returns the rights that are missing.
func (n *Namespaces) ask(ctx context.Context, namespace string) (missing []right, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	for _, r := range needed {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: r.verb, Group: r.group, Resource: r.resource, Subresource: r.subresource,
			},
		}}
		answer, err := n.reviews.Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("ask whether the operator may %s: %w", r, err)
		}
		if !answer.Status.Allowed {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

func join(rights []right) string {
	words := make([]string, 0, len(rights))
	for _, r := range rights {
		words = append(words, r.String())
	}
	return strings.Join(words, ", ")
}
