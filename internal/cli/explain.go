package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// asked is what a command asked for, so that a refusal can be explained.
type asked struct {
	group string
	// resource, with its subresource behind a slash.
	resource string
	verbs    []string
	// namespace that was asked; "" for all of them.
	namespace string
	// name of the object; "" for all of them.
	name string
	// pool, target and session that were asked for along with it, if any.
	pool, target, session string
	// with is what else it takes to do it, in the same namespace.
	with []asked
}

// explain adds the next step to an error that came from a server.
func (f *factory) explain(ctx context.Context, err error, what asked) error {
	switch {
	case err == nil:
		return nil
	case isTargets(err):
		return err // with the next step in its own words
	case apierrors.IsForbidden(err):
		return hinted(err, "This would permit it; give it to somebody who may create roles:\n\n%s", what.role())
	case apierrors.IsUnauthorized(err):
		return hinted(err, "The cluster does not know you: renew the credentials of your kubeconfig's user.")
	case apierrors.IsNotFound(err) && !isNamed(err), isFromAggregator(err):
		return hinted(err, "The API %s does not answer as it should. Find out why: %s doctor", what.group, f.name)
	case apierrors.IsNotFound(err):
		return f.explainNotFound(ctx, err, what)
	case isConnection(err):
		return hinted(err, "%s", checkCluster)
	default:
		return err
	}
}

// checkCluster is what to do when nobody answers.
const checkCluster = "The cluster does not answer: check --context, --server and your network."

// isTargets reports that it is the target that refused: a container that is not
// there, a cluster that does not permit it to the pool's credentials.
func isTargets(err error) bool {
	return apierrors.HasStatusCause(err, livev1alpha1.CauseReason)
}

// isNamed reports that a 404 is about an object. One about a path that nobody
// serves has no name.
func isNamed(err error) bool {
	details := detailsOf(err)
	return details != nil && details.Name != ""
}

// detailsOf are what a server tells about an error besides its message.
func detailsOf(err error) *metav1.StatusDetails {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	return status.Status().Details
}

// isFromAggregator reports that kube-apiserver answered in the operator's place.
func isFromAggregator(err error) bool {
	return apierrors.IsServiceUnavailable(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

func isConnection(err error) bool {
	_, ok := errors.AsType[*url.Error](err)
	return ok && !errors.Is(err, context.Canceled)
}

// explainNotFound offers names that are there.
func (f *factory) explainNotFound(ctx context.Context, err error, what asked) error {
	offer := f.offerPools
	switch {
	case aboutTarget(err, what):
		offer = f.offerTargets
	case aboutSession(err):
		offer = f.offerSessions
	}
	text, offerErr := offer(ctx, what)
	if offerErr != nil {
		// What was not found is the news; that nothing can be offered is not.
		return err
	}
	return hinted(err, "%s", text)
}

func (f *factory) offerPools(ctx context.Context, what asked) (string, error) {
	objects, err := f.objects()
	if err != nil {
		return "", err
	}
	all, err := objects.pools(ctx, what.namespace)
	return f.offer("pool", cmp.Or(what.pool, what.name), what.namespace, poolNames(all)), err
}

func (f *factory) offerTargets(ctx context.Context, what asked) (string, error) {
	objects, err := f.objects()
	if err != nil {
		return "", err
	}
	known, err := knownTargets(ctx, objects, what)
	return f.offer("target", what.targetName(), what.namespace, known), err
}

func (f *factory) offerSessions(ctx context.Context, what asked) (string, error) {
	names, err := f.listSessions(ctx, nil)
	if err != nil {
		return "", err
	}
	text := "The operator forgets a session some minutes after its end, and all of them when it is restarted. Create another."
	if near := nearest(what.session, names); len(near) > 0 {
		text = "Did you mean " + strings.Join(near, " or ") + "?"
	}
	return text, nil
}

func (a asked) targetName() string {
	if a.target != "" {
		return a.target
	}
	return a.name
}

// aboutTarget reports that it is the target that was not found.
func aboutTarget(err error, what asked) bool {
	if details := detailsOf(err); details != nil && details.Kind == targets {
		return true
	}
	return strings.HasPrefix(what.resource, targets)
}

// aboutSession reports that it is the session that was not found.
func aboutSession(err error) bool {
	details := detailsOf(err)
	return details != nil && details.Kind == sessions
}

// knownTargets are the targets of the pool that was asked for, or all.
func knownTargets(ctx context.Context, objects objectClient, what asked) ([]string, error) {
	all, err := objects.targets(ctx, what.namespace)
	name := what.pool
	if strings.HasPrefix(what.resource, pools) {
		name = what.name
	}
	if err != nil || name == "" {
		return targetNames(all), err
	}
	pool, err := objects.pool(ctx, what.namespace, name)
	if err != nil {
		return targetNames(all), nil //nolint:nilerr // without the pool, any target is better than none
	}
	return targetNames(targetsOf(pool, all)), nil
}

// offer names what is there instead.
func (f *factory) offer(kind, name, namespace string, known []string) string {
	if len(known) == 0 {
		return fmt.Sprintf("Namespace %s has no %ss. See those of all namespaces: %s status -A", namespace, kind, f.name)
	}
	if near := nearest(name, known); len(near) > 0 {
		return "Did you mean " + strings.Join(near, " or ") + "?"
	}
	const most = 10
	if len(known) > most {
		return fmt.Sprintf("There are %d %ss, among them %s.", len(known), kind, strings.Join(known[:most], ", "))
	}
	return fmt.Sprintf("There is %s.", strings.Join(known, ", "))
}

// role is the RBAC object that would permit what was asked.
func (a asked) role() string {
	parts := []string{"connpool", strings.ReplaceAll(a.resource, "/", "-")}
	switch {
	case a.name != "":
		parts = append(parts, a.name)
	case a.resource == sessions:
		parts = append(parts, a.verbs...) // or what permits one would take back another
	}
	name := strings.Join(parts, "-")
	var b strings.Builder
	kind, binding := "ClusterRole", "clusterrolebinding "+name+" --clusterrole "+name
	if a.namespace != "" {
		kind, binding = "Role", fmt.Sprintf("rolebinding %s --namespace %s --role %s", name, a.namespace, name)
	}
	fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata:\n  name: %s\n", kind, name)
	if a.namespace != "" {
		fmt.Fprintf(&b, "  namespace: %s\n", a.namespace)
	}
	b.WriteString("rules:\n")
	for _, rule := range append([]asked{a}, a.with...) {
		b.WriteString(rule.rule())
	}
	fmt.Fprintf(&b, "\nand then: kubectl create %s --user USER", binding)
	return b.String()
}

// rule is one rule of a role.
func (a asked) rule() string {
	names := ""
	if a.name != "" {
		names = fmt.Sprintf("  resourceNames: [%q]\n", a.name)
	}
	return fmt.Sprintf("- apiGroups: [%q]\n  resources: [%q]\n%s  verbs: [%s]\n", a.group, a.resource, names, strings.Join(a.verbs, ", "))
}

// Things that commands ask for.

func askedToList(resource, namespace string) asked {
	return asked{group: v1alpha1.GroupName, resource: resource, verbs: []string{"get", "list"}, namespace: namespace}
}

func askedToGet(resource, namespace, name string) asked {
	return asked{group: v1alpha1.GroupName, resource: resource, verbs: []string{"get"}, namespace: namespace, name: name}
}

func askedForConnections(namespace string) asked {
	return asked{group: livev1alpha1.GroupName, resource: "connections", verbs: []string{"get", "list"}, namespace: namespace}
}

// askedToStream asks for get too: a WebSocket is opened by GET, and servers on
// its way look at that.
func askedToStream(subresource, namespace, pool, target string) asked {
	return asked{
		group: livev1alpha1.GroupName, resource: pools + "/" + subresource, verbs: []string{"create", "get"},
		namespace: namespace, name: pool, target: target,
	}
}

func askedToCreate(resource, namespace, name string) asked {
	return asked{group: livev1alpha1.GroupName, resource: resource, verbs: []string{"create"}, namespace: namespace, name: name}
}

// askedToProxy asks for all verbs: on its way a request is looked at by its
// method, and at its end by create.
func askedToProxy(namespace, pool, target string) asked {
	return asked{
		group: livev1alpha1.GroupName, resource: pools + "/proxy", verbs: []string{"create", "get", "update", "patch", "delete"},
		namespace: namespace, name: pool, target: target,
	}
}

// askedForSessions asks for what one may do with those of others, too.
func askedForSessions(namespace string, verbs ...string) asked {
	return asked{group: livev1alpha1.GroupName, resource: sessions, verbs: verbs, namespace: namespace}
}

func askedToOpenSession(namespace, pool, target string) asked {
	what := askedForSessions(namespace, "create")
	what.pool, what.target = pool, target
	what.with = []asked{askedToCreate(pools+"/exec", namespace, pool)}
	return what
}

// askedToUseSession names no session: a role for one that ends soon is of no use.
func askedToUseSession(namespace, name string) asked {
	what := askedForSessions(namespace, "create", "get")
	what.resource = sessions + "/exec"
	what.session = name
	what.with = []asked{askedToCreate(pools+"/exec", namespace, "")}
	return what
}
