package cluster

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
	"github.com/connpool/connpool/internal/cli/exit"
)

// CheckCluster is what to do when the cluster does not answer.
const CheckCluster = "The cluster does not answer: check --context, --server and your network."

// Explain adds the next step to an error that came from a server.
func (c *Cluster) Explain(ctx context.Context, err error, what Asked) error {
	switch {
	case err == nil:
		return nil
	case isTargets(err):
		return err // the target's message says the next step
	case apierrors.IsForbidden(err):
		return exit.Hint(err, "This would permit it; give it to a user who may create roles:\n\n%s", what.role())
	case apierrors.IsUnauthorized(err):
		return exit.Hint(err, "The cluster does not know you: renew the credentials of your kubeconfig's user.")
	case apierrors.IsNotFound(err) && !isNamed(err), isFromAggregator(err):
		return exit.Hint(err, "The API %s does not answer as it should. Find out why: %s doctor", what.Group, c.program)
	case apierrors.IsNotFound(err):
		return c.explainNotFound(ctx, err, what)
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

// isNamed reports whether a 404 is about an object. A 404 about a path that no
// server serves has no name.
func isNamed(err error) bool {
	details := detailsOf(err)
	return details != nil && details.Name != ""
}

// detailsOf returns what a server says about an error besides its message.
func detailsOf(err error) *metav1.StatusDetails {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	return status.Status().Details
}

// isFromAggregator reports whether kube-apiserver answered in the operator's
// place.
func isFromAggregator(err error) bool {
	return apierrors.IsServiceUnavailable(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// isConnection reports whether the cluster could not be reached.
func isConnection(err error) bool {
	_, ok := errors.AsType[*url.Error](err)
	return ok && !errors.Is(err, context.Canceled)
}

// explainNotFound offers names that exist.
func (c *Cluster) explainNotFound(ctx context.Context, err error, what Asked) error {
	offer := offerPools
	switch {
	case isAbout(err, Targets) || strings.HasPrefix(what.Resource, Targets):
		offer = offerTargets
	case isAbout(err, Sessions):
		offer = offerSessions
	case strings.HasPrefix(what.Resource, Connections):
		offer = offerConnections
	}
	text, offerErr := offer(ctx, c, what)
	if offerErr != nil {
		// The user asked about the first error; the second would only distract.
		return err
	}
	return exit.Hint(err, "%s", text)
}

// isAbout reports whether a server says that its error is about a resource.
func isAbout(err error, resource string) bool {
	details := detailsOf(err)
	return details != nil && details.Kind == resource
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

func offerSessions(ctx context.Context, c *Cluster, what Asked) (string, error) {
	live, err := c.Live()
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
	return "The operator forgets a session some minutes after its end, and all of them when it is restarted. Create another.", nil
}

// offerConnections names no connection, because one with a similar name is no
// substitute.
func offerConnections(_ context.Context, c *Cluster, _ Asked) (string, error) {
	return "Connections come and go. See those that there are: " + c.program + " connections", nil
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
		return fmt.Sprintf("There are %d %ss, among them %s.", len(known), kind, strings.Join(known[:most], ", "))
	}
	return fmt.Sprintf("There is %s.", strings.Join(known, ", "))
}

func didYouMean(names []string) string { return "Did you mean " + strings.Join(names, " or ") + "?" }
