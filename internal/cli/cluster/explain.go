package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/exit"
)

// CheckCluster is what to do when the cluster does not answer.
const CheckCluster = "The cluster does not answer: check --context, --server and your network."

// checkCertificate is what to do when a server answers that cannot be the cluster.
const checkCertificate = "The server that answers cannot prove that it is the cluster of your kubeconfig: " +
	"check --context, --server and --certificate-authority."

// Explain returns an error that came from a server in words for a person, with the next
// step.
func (c *Cluster) Explain(ctx context.Context, err error, what Asked) error {
	if err == nil {
		return nil
	}
	err = inWords(err, what)
	switch {
	case isTargets(err):
		return err // the target's message says the next step
	case lacksRole(err):
		return exit.Hint(err, "This would permit it; ask a user who may create roles to apply it:\n\n%s", what.role(userIn(err)))
	case apierrors.IsUnauthorized(err):
		return exit.Hint(err, "The cluster does not recognize you: renew the credentials of your kubeconfig's user.")
	case apierrors.IsNotFound(err) && detailsOf(err).Name == "", isFromAggregator(err):
		return exit.Hint(err, "The API %s does not answer as it should. Find out why: %s doctor", what.Group, c.program)
	case apierrors.IsNotFound(err):
		return c.explainNotFound(ctx, err, what)
	case isCertificate(err):
		return exit.Hint(err, "%s", checkCertificate)
	case isConnection(err):
		return exit.Hint(err, "%s", CheckCluster)
	default:
		return err
	}
}

// isTargets reports whether it is the target that refused: a container that does
// not exist, a cluster that forbids it to the pool's credentials.
func isTargets(err error) bool {
	return apierrors.HasStatusCause(err, livev1alpha1.CauseReason)
}

// IsUnserved reports whether the operator refused because it does not serve the namespace.
func IsUnserved(err error) bool {
	cause, _ := apierrors.StatusCause(err, livev1alpha1.CauseReason)
	return cause.Message == livev1alpha1.ReasonNamespaceNotWatched || cause.Message == livev1alpha1.ReasonNamespaceNotReadable
}

// lacksRole reports whether a Role would permit what was refused. Other refusals say the next step themselves.
func lacksRole(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), " cannot ")
}

// refusedUser finds the user in a refusal of RBAC. Other characters would need quotes in a shell.
var refusedUser = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`User "([\w.:@/-]+)" cannot `) })

// userIn returns the user of a refusal, or "" if it does not say it.
func userIn(err error) string {
	if found := refusedUser().FindStringSubmatch(err.Error()); found != nil {
		return found[1]
	}
	return ""
}

// detailsOf returns what a server says about an error besides its message. A 404
// about a path that no server serves has no name.
func detailsOf(err error) metav1.StatusDetails {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return metav1.StatusDetails{}
	}
	return *status.Status().Details
}

// isFromAggregator reports whether kube-apiserver answered in the operator's place.
func isFromAggregator(err error) bool {
	return apierrors.IsServiceUnavailable(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// isConnection reports whether the cluster could not be reached. An upgrade to a stream has
// the error of its connection as it is.
func isConnection(err error) bool {
	_, isRequest := errors.AsType[*url.Error](err)
	connection, isOp := errors.AsType[*net.OpError](err)
	return (isRequest || isOp && connection.Op == "dial") && !errors.Is(err, context.Canceled)
}

// isCertificate reports whether the server's certificate was refused.
func isCertificate(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// explainNotFound offers names that exist. It names no connection, because one with
// a similar name is not a substitute.
func (c *Cluster) explainNotFound(ctx context.Context, err error, what Asked) error {
	offer, kind := offerPools, detailsOf(err).Kind
	switch {
	case kind == Targets || strings.HasPrefix(what.Resource, Targets):
		offer = offerTargets
	case kind == Sessions:
		offer = offerSessions
	case strings.HasPrefix(what.Resource, Connections):
		return exit.Hint(err, "Connections come and go. List those that exist now: %s connections", c.program)
	}
	text, offerErr := offer(ctx, c, what)
	if offerErr != nil {
		// The user asked about the first error; the second would only distract.
		return err
	}
	if saysAllTargets(err) {
		return err
	}
	return exit.Hint(err, "%s", text)
}

// RequirePool returns an error if it is known that a pool does not exist. A list of what
// is in it would only be empty.
func (c *Cluster) RequirePool(ctx context.Context, namespace, name string) error {
	objects, err := c.Objects()
	if err != nil {
		return err
	}
	if _, err = objects.Pool(ctx, namespace, name); !apierrors.IsNotFound(err) {
		return nil // another error only says that the user may not see pools
	}
	return c.Explain(ctx, err, AskedToGet(Pools, namespace, name))
}

func offerPools(ctx context.Context, c *Cluster, what Asked) (string, error) {
	objects, err := c.Objects()
	if err != nil {
		return "", err
	}
	all, err := objects.Pools(ctx, what.Namespace)
	return c.Offer("pool", cmp.Or(what.Pool, what.Name), what.Namespace, Names(all)), err
}

func offerTargets(ctx context.Context, c *Cluster, what Asked) (string, error) {
	objects, err := c.Objects()
	if err != nil {
		return "", err
	}
	pool := what.Pool
	if strings.HasPrefix(what.Resource, Pools) {
		pool = what.Name
	}
	known, err := objects.TargetNames(ctx, what.Namespace, pool)
	return c.Offer("target", cmp.Or(what.Target, what.Name), what.Namespace, known), err
}

// requireTarget returns an error if it is known that a target does not exist.
func (c *Cluster) requireTarget(ctx context.Context, namespace, name string) error {
	objects, err := c.Objects()
	if err != nil {
		return err
	}
	if _, err = objects.Target(ctx, types.NamespacedName{Namespace: namespace, Name: name}); !apierrors.IsNotFound(err) {
		return nil // another error only says that the user may not see targets
	}
	return c.Explain(ctx, err, AskedToGet(Targets, namespace, name))
}

// RequireNames returns an error if it is known that a pool or a target does not exist; ""
// is none of them. The namespace "" means all, of which nothing is known.
func (c *Cluster) RequireNames(ctx context.Context, namespace, pool, target string) error {
	if namespace == "" {
		return nil
	}
	if pool != "" {
		if err := c.RequirePool(ctx, namespace, pool); err != nil {
			return err
		}
	}
	if target == "" {
		return nil
	}
	return c.requireTarget(ctx, namespace, target)
}

func offerSessions(ctx context.Context, c *Cluster, what Asked) (string, error) {
	live, err := c.Live(ctx)
	if err != nil {
		return "", err
	}
	names, err := SessionNames(ctx, live, what.Namespace)
	if err != nil {
		return "", err
	}
	if near := nearest(what.Session, names); len(near) > 0 {
		return didYouMean(near), nil
	}
	return "The operator forgets a session some minutes after its end, and all sessions when it restarts. Create another one.", nil
}

// Offer returns a sentence with names that exist, in place of one that does not.
func (c *Cluster) Offer(kind, name, namespace string, known []string) string {
	if len(known) == 0 {
		return fmt.Sprintf("Namespace %s has no %ss. See those of all namespaces: %s status -A", namespace, kind, c.program)
	}
	if near := nearest(name, known); len(near) > 0 {
		return didYouMean(near)
	}
	const most = 10
	if len(known) > most {
		return fmt.Sprintf("There are %d %ss, including %s.", len(known), kind, strings.Join(known[:most], ", "))
	}
	if len(known) == 1 {
		return fmt.Sprintf("There is only %s.", known[0])
	}
	return fmt.Sprintf("There are %s and %s.", strings.Join(known[:len(known)-1], ", "), known[len(known)-1])
}

func didYouMean(names []string) string { return "Did you mean " + strings.Join(names, " or ") + "?" }

// Asked is what a command asked for, so that a refusal can be explained.
type Asked struct {
	Group string
	// Resource, with its subresource behind a slash.
	Resource string
	Verbs    []string
	// Namespace is "" for all of them.
	Namespace string
	// Name of the object, or "" for all of them.
	Name string
	// Pool, Target and Session were asked for along with it, if they are set.
	Pool, Target, Session string
	// With is what else the request needs, in the same namespace.
	With []Asked
}

// role returns the RBAC object that would permit the request, and how to give it to a user.
func (a Asked) role(user string) string {
	parts := []string{"connpool", strings.ReplaceAll(a.Resource, "/", "-")}
	switch {
	case a.Name != "":
		parts = append(parts, a.Name)
	case a.Resource == Sessions:
		parts = append(parts, a.Verbs...) // or applying one role would replace another
	}
	return Role(strings.Join(parts, "-"), cmp.Or(user, "USER"), append([]Asked{a}, a.With...))
}

// Role returns the RBAC object of a name that permits what is asked for, which is in one
// namespace or in all, and how to give it to a user.
func Role(name, user string, asked []Asked) string {
	var rules strings.Builder
	for _, a := range asked {
		rules.WriteString(a.rule())
	}
	kind, metadata, binding := "ClusterRole", "", "clusterrolebinding "+name+" --clusterrole "+name
	if namespace := asked[0].Namespace; namespace != "" {
		kind, metadata = "Role", "  namespace: "+namespace+"\n"
		binding = fmt.Sprintf("rolebinding %s --namespace %s --role %s", name, namespace, name)
	}
	return fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata:\n  name: %s\n%srules:\n%s\n"+
		"and then: kubectl create %s --user %s", kind, name, metadata, rules.String(), binding, user)
}

func (a Asked) rule() string {
	names := ""
	if a.Name != "" {
		names = fmt.Sprintf("  resourceNames: [%q]\n", a.Name)
	}
	return fmt.Sprintf("- apiGroups: [%q]\n  resources: [%q]\n%s  verbs: [%s]\n", a.Group, a.Resource, names, strings.Join(a.Verbs, ", "))
}

// AskedToList asks for all objects of a resource of the declarative API.
func AskedToList(resource, namespace string) Asked {
	return Asked{Group: v1alpha1.GroupName, Resource: resource, Verbs: []string{"get", "list"}, Namespace: namespace}
}

// AskedToGet asks for one object of the declarative API.
func AskedToGet(resource, namespace, name string) Asked {
	return Asked{Group: v1alpha1.GroupName, Resource: resource, Verbs: []string{"get"}, Namespace: namespace, Name: name}
}

// AskedForConnections asks for a list of connections.
func AskedForConnections(namespace string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: Connections, Verbs: []string{"get", "list"}, Namespace: namespace}
}

// AskedForUses asks for the history of a namespace.
func AskedForUses(namespace string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: Uses, Verbs: []string{"get", "list"}, Namespace: namespace}
}

// AskedToStream asks for a stream through a pool. It asks for get too: a WebSocket
// is opened by GET, and kube-apiserver authorizes that method.
func AskedToStream(subresource, namespace, pool, target string) Asked {
	return Asked{
		Group: livev1alpha1.GroupName, Resource: Pools + "/" + subresource, Verbs: []string{"create", "get"},
		Namespace: namespace, Name: pool, Target: target,
	}
}

// AskedToCreate asks for a subresource of the live API that acts once.
func AskedToCreate(resource, namespace, name string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: resource, Verbs: []string{"create"}, Namespace: namespace, Name: name}
}

// AskedToProxy asks for all Verbs: on its way a request is looked at by its
// method, and at its end by create.
func AskedToProxy(namespace, pool, target string) Asked {
	return Asked{
		Group: livev1alpha1.GroupName, Resource: Pools + "/proxy", Verbs: []string{"create", "get", "update", "patch", "delete"},
		Namespace: namespace, Name: pool, Target: target,
	}
}

// AskedForSessions asks for all sessions of a namespace, of all users.
func AskedForSessions(namespace string, verbs ...string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: Sessions, Verbs: verbs, Namespace: namespace}
}

// AskedToOpenSession asks for a session, and for the exec that it stands for.
func AskedToOpenSession(namespace, pool, target string) Asked {
	what := AskedForSessions(namespace, "create")
	what.Pool, what.Target = pool, target
	what.With = []Asked{AskedToCreate(Pools+"/exec", namespace, pool)}
	return what
}

// AskedToUseSession names no Session: a role for one that ends soon is of no use.
func AskedToUseSession(namespace, name string) Asked {
	what := AskedForSessions(namespace, "create", "get")
	what.Resource = Sessions + "/exec"
	what.Session = name
	what.With = []Asked{AskedToCreate(Pools+"/exec", namespace, "")}
	return what
}

// nearest returns at most three known words that the user may have meant, best first.
func nearest(word string, known []string) []string {
	type guess struct {
		word     string
		distance int
	}
	var guesses []guess
	for _, k := range known {
		d := distance(word, k)
		if strings.HasPrefix(k, word) || strings.HasPrefix(word, k) {
			d = min(d, 1)
		}
		if d <= max(1, len(word)/3) {
			guesses = append(guesses, guess{k, d})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.word, b.word))
	})
	words := make([]string, 0, 3)
	for _, g := range guesses[:min(3, len(guesses))] {
		words = append(words, g.word)
	}
	return words
}

// distance returns how many letters of a have to be changed, added, removed or
// swapped with their neighbor to turn it into b.
func distance(a, b string) int {
	// to[i][j] turns the first i letters of a into the first j letters of b.
	to := make([][]int, len(a)+1)
	for i := range to {
		to[i] = make([]int, len(b)+1)
		to[i][0] = i
	}
	for j := range to[0] {
		to[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			changed := 1
			if a[i-1] == b[j-1] {
				changed = 0
			}
			to[i][j] = min(to[i-1][j]+1, to[i][j-1]+1, to[i-1][j-1]+changed)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				to[i][j] = min(to[i][j], to[i-2][j-2]+1)
			}
		}
	}
	return to[len(a)][len(b)]
}
