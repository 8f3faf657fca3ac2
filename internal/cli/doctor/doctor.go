// Package doctor finds out whether connpool is installed and answers, and what the
// user may do in a namespace.
//
// It asks one question after the other, from the cluster to the operator, and
// then for all permissions at the same time. It changes nothing. The exit code is
// 1 only for what is broken; a missing permission is a finding, not a failure.
//
// Trade-off: a permission that a Role gives for one object by its name cannot be
// seen, so such a finding says that it may be wrong.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

type options struct{ *plugin.Factory }

// Results of a question.
const (
	findingOK     = "ok"
	findingBroken = "broken"
	// findingDenied is what works, but not for the user.
	findingDenied = "denied"
	// findingUnknown is what could not be examined.
	findingUnknown = "unknown"
)

// finding is the answer to one question.
type finding struct {
	Subject string `json:"subject"`
	Result  string `json:"result"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

// New returns the command doctor.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Find out whether everything is installed, and what you may do",
		Long: "Find out whether connpool is installed and answers, and what you may do in the\n" +
			"namespace. It changes nothing. The exit code is 1 if something is broken; what\n" +
			"you merely may not do is not a failure.",
		Example: f.Examples("in the namespace of the kubeconfig", "doctor", "in another one", "doctor -n prod"),
		Args:    cobra.NoArgs,
		RunE:    f.NamespacedE(nil, nil, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	return command
}

func (o *options) run(ctx context.Context) error {
	findings := o.examine(ctx)
	if o.Output.IsMachine() {
		if err := o.Output.Encode(o.Out, map[string]any{"findings": findings}); err != nil {
			return err
		}
	} else {
		o.print(findings)
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Result == findingBroken }) {
		return exit.With(exit.Failed)
	}
	return nil
}

func (o *options) print(findings []finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Subject))
	}
	p := display.PaintFor(o.Out)
	for _, f := range findings {
		fmt.Fprintf(o.Out, "%s %-*s  %s\n", sign(p, f.Result), width, f.Subject, display.OneLine(f.Message))
		if f.Next != "" {
			fmt.Fprintf(o.Out, "  %*s  next: %s\n", width, "", display.OneLine(f.Next))
		}
	}
}

func sign(p display.Paint, result string) string {
	switch result {
	case findingOK:
		return p.Mark(true)
	case findingBroken:
		return p.Mark(false)
	default:
		return p.Attention()
	}
}

// examine asks one question after the other. Without a cluster it stops at the first.
func (o *options) examine(ctx context.Context) []finding {
	plain, err := o.Cluster.Plain()
	if err != nil {
		const next = "name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context"
		return []finding{{"cluster", findingBroken, err.Error(), next}}
	}
	e := examination{plain: plain, namespace: o.Namespace, program: o.Name}
	var findings []finding
	for _, question := range []struct {
		subject string
		ask     func(context.Context) finding
	}{{"cluster", e.cluster}, {v1alpha1.GroupName, e.declarative}, {"APIService", e.registered}, {"operator", e.operator}} {
		found := question.ask(ctx)
		found.Subject = question.subject
		findings = append(findings, found)
		if findings[0].Result == findingBroken {
			return findings
		}
	}
	return append(findings, e.permissions(ctx)...)
}

type examination struct {
	plain     cluster.Plain
	namespace string
	program   string
}

// Next steps that several findings propose.
const (
	install = "install connpool: kubectl apply --server-side -k config/default"
	look    = "look at the operator: kubectl -n connpool-system get pods"
)

func works(message string) finding { return finding{Result: findingOK, Message: message} }

func broken(message, next string) finding {
	return finding{Result: findingBroken, Message: message, Next: next}
}

// cluster finds out whether the cluster answers, and who the user is to it.
func (e examination) cluster(ctx context.Context) finding {
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	err := e.plain.Get(ctx, "/version", &version)
	switch {
	case apierrors.IsUnauthorized(err):
		return broken(err.Error(), "renew the credentials of your kubeconfig's user")
	case err != nil:
		return broken(err.Error(), "check --context, --server and your network")
	}
	message := e.plain.URL() + " answers with Kubernetes " + version.GitVersion
	if name, err := e.plain.WhoAmI(ctx); err == nil && name != "" {
		message += "; you are " + name
	}
	return works(message)
}

// declarative finds out whether pools and targets can be declared. It reads
// discovery, which every user may read, and not the CRDs.
func (e examination) declarative(ctx context.Context) finding {
	served, err := e.discover(ctx, v1alpha1.GroupName)
	if err != nil {
		return broken(missing(err, "the custom resources are not installed"), install)
	}
	for _, resource := range []string{cluster.Pools, cluster.Targets} {
		if !slices.Contains(served, resource) {
			return broken("the custom resource "+resource+" is not installed", install)
		}
	}
	return works("pools and targets can be declared")
}

func (e examination) discover(ctx context.Context, group string) ([]string, error) {
	var list metav1.APIResourceList
	err := e.plain.Get(ctx, "/apis/"+group+"/v1alpha1", &list)
	names := make([]string, 0, len(list.APIResources))
	for _, resource := range list.APIResources {
		names = append(names, resource.Name)
	}
	return names, err
}

// missing returns text if something does not exist, and else the error's own words.
func missing(err error, text string) string {
	if apierrors.IsNotFound(err) {
		return text
	}
	return err.Error()
}

// registered finds out whether kube-apiserver reaches the live API.
func (e examination) registered(ctx context.Context) finding {
	var service struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	err := e.plain.Get(ctx, "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1."+livev1alpha1.GroupName, &service)
	available := meta.FindStatusCondition(service.Status.Conditions, "Available")
	const logs = look + "; kubectl -n connpool-system logs -l app.kubernetes.io/name=connpool --prefix --tail=100"
	switch {
	case apierrors.IsForbidden(err):
		return finding{Result: findingUnknown, Message: "you may not read it, which is usual; the next line tells whether it works"}
	case err != nil:
		return broken(missing(err, "the live API is not registered"), install)
	case available == nil:
		return broken(display.None, logs)
	case available.Status == metav1.ConditionTrue:
		return works("kube-apiserver reaches the live API")
	}
	return broken(display.OneLine(available.Reason+": "+available.Message), logs)
}

// operator finds out whether the operator answers, and which it is.
func (e examination) operator(ctx context.Context) finding {
	start := time.Now()
	served, err := e.discover(ctx, livev1alpha1.GroupName)
	message := "answers in " + display.Micros(time.Since(start).Microseconds())
	switch {
	case err != nil:
		return broken(missing(err, "no server answers for "+livev1alpha1.GroupName), look)
	case !slices.Contains(served, cluster.Connections):
		return broken("it answers, but without connections: another version serves this API",
			"upgrade the operator or this program until both are of one version: "+e.program+" version")
	}
	if version, err := e.plain.OperatorVersion(ctx); err == nil {
		message += ", version " + version
	}
	return works(message)
}

// wanted is a request that a user may want to make, and the commands that need it.
type wanted struct{ group, resource, verb, purpose string }

var allWanted = []wanted{
	{v1alpha1.GroupName, cluster.Pools, "list", "status"},
	{v1alpha1.GroupName, cluster.Targets, "list", "status, run --all"},
	{v1alpha1.GroupName, cluster.Pools, "create", "declare pools"},
	{v1alpha1.GroupName, cluster.Targets, "create", "declare targets"},
	{livev1alpha1.GroupName, cluster.Connections, "list", "connections, top"},
	{livev1alpha1.GroupName, cluster.Pools + "/exec", "create", "exec, run, cp, shell"},
	{livev1alpha1.GroupName, cluster.Pools + "/exec", "get", "exec, run, cp, shell"},
	{livev1alpha1.GroupName, cluster.Pools + "/portforward", "create", "port-forward"},
	{livev1alpha1.GroupName, cluster.Pools + "/portforward", "get", "port-forward"},
	{livev1alpha1.GroupName, cluster.Pools + "/socketforward", "create", "port-forward of unix sockets"},
	{livev1alpha1.GroupName, cluster.Pools + "/proxy", "create", "proxy"},
	{livev1alpha1.GroupName, cluster.Pools + "/proxy", "get", "proxy"},
	{livev1alpha1.GroupName, cluster.Sessions, "create", "session create"},
	{livev1alpha1.GroupName, cluster.Sessions, "list", "session list"},
	{livev1alpha1.GroupName, cluster.Sessions, "delete", "session delete"},
	{livev1alpha1.GroupName, cluster.Sessions + "/exec", "create", "session exec"},
	{livev1alpha1.GroupName, cluster.Sessions + "/exec", "get", "session exec"},
	{livev1alpha1.GroupName, cluster.Pools + "/drain", "create", "drain POOL"},
	{livev1alpha1.GroupName, cluster.Connections + "/drain", "create", "drain connection/NAME"},
	{livev1alpha1.GroupName, cluster.Targets + "/check", "create", "check"},
}

// permissions finds out what the user may do, by asking for all at the same time.
func (e examination) permissions(ctx context.Context) []finding {
	findings := make([]finding, len(allWanted))
	var asking sync.WaitGroup
	for i, w := range allWanted {
		asking.Go(func() { findings[i] = e.permission(ctx, w) })
	}
	asking.Wait()
	return findings
}

// accessReview is a SelfSubjectAccessReview.
type accessReview struct {
	metav1.TypeMeta `json:",inline"`

	Spec struct {
		Attributes map[string]string `json:"resourceAttributes"`
	} `json:"spec"`
	Status struct {
		Allowed bool `json:"allowed"`
	} `json:"status,omitzero"`
}

func (e examination) permission(ctx context.Context, w wanted) finding {
	resource, subresource, _ := strings.Cut(w.resource, "/")
	review := accessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}}
	review.Spec.Attributes = map[string]string{
		"namespace": e.namespace, "verb": w.verb, "group": w.group, "resource": resource, "subresource": subresource,
	}
	permitted := "permitted in namespace " + e.namespace + " (" + w.purpose + ")"
	found := finding{Subject: w.verb + " " + w.resource, Result: findingOK, Message: permitted}
	err := e.plain.Post(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
	switch {
	case err != nil:
		found.Result, found.Message = findingUnknown, "cannot be asked: "+err.Error()
	case !review.Status.Allowed:
		found.Result, found.Message = findingDenied, "not "+permitted
		if subresource != "" {
			found.Message += ", unless by name: a Role with resourceNames is not seen here"
		}
		found.Next = fmt.Sprintf("ask for a Role with apiGroups: [%s], resources: [%s], verbs: [%s]", w.group, w.resource, w.verb)
	}
	return found
}
