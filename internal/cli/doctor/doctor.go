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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// questionTimeout bounds each question.
const questionTimeout = 10 * time.Second

// options find out whether all is installed and permitted.
type options struct {
	*plugin.Factory
}

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
	// Subject is what was examined.
	Subject string `json:"subject"`
	Result  string `json:"result"`
	Message string `json:"message"`
	// Next is the next step.
	Next string `json:"next,omitempty"`
}

// New returns the command doctor.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Find out whether everything is installed, and what you may do",
		Long: "Find out whether connpool is installed and answers, and what you may do in the\n" +
			"namespace. It changes nothing. The exit code is 1 if something is broken; what\n" +
			"you merely may not do is no failure.",
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

// sign marks a finding.
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

// examine asks one question after the other. Without a cluster it stops after the
// first.
func (o *options) examine(ctx context.Context) []finding {
	plain, err := o.Cluster.Plain()
	if err != nil {
		const next = "name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context"
		return []finding{{"cluster", findingBroken, err.Error(), next}}
	}
	e := examination{plain: plain, namespace: o.Namespace, program: o.Name}
	first := e.cluster(ctx)
	if first.Result == findingBroken {
		return []finding{first}
	}
	findings := []finding{first, e.declarative(ctx), e.registered(ctx), e.operator(ctx)}
	return append(findings, e.permissions(ctx)...)
}

// examination asks a cluster.
type examination struct {
	plain     cluster.Plain
	namespace string
	program   string
}

func (e examination) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	return e.plain.Get(ctx, path, into)
}

// cluster finds out whether the cluster answers, and who the user is to it.
func (e examination) cluster(ctx context.Context) finding {
	found := finding{Subject: "cluster", Result: findingBroken}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := e.get(ctx, "/version", &version); err != nil {
		found.Message = err.Error()
		found.Next = "check --context, --server and your network"
		if apierrors.IsUnauthorized(err) {
			found.Next = "renew the credentials of your kubeconfig's user"
		}
		return found
	}
	found.Result = findingOK
	found.Message = fmt.Sprintf("%s answers with Kubernetes %s%s", e.plain.URL(), version.GitVersion, e.identity(ctx))
	return found
}

// identity returns who the cluster takes the user for, if it tells.
func (e examination) identity(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	name, err := e.plain.WhoAmI(ctx)
	if err != nil || name == "" {
		return ""
	}
	return "; you are " + name
}

// declarative finds out whether pools and targets can be declared. It reads
// discovery, which every user may read, and not the CRDs.
func (e examination) declarative(ctx context.Context) finding {
	const next = "install connpool: kubectl apply --server-side -k config/default"
	found := finding{Subject: v1alpha1.GroupName, Result: findingBroken, Next: next}
	served, err := e.discover(ctx, v1alpha1.GroupName)
	if err != nil {
		found.Message = missing(err, "the custom resources are not installed")
		return found
	}
	for _, resource := range []string{cluster.Pools, cluster.Targets} {
		if !slices.Contains(served, resource) {
			found.Message = "the custom resource " + resource + " is not installed"
			return found
		}
	}
	return finding{v1alpha1.GroupName, findingOK, "pools and targets can be declared", ""}
}

func (e examination) discover(ctx context.Context, group string) ([]string, error) {
	var list metav1.APIResourceList
	err := e.get(ctx, "/apis/"+group+"/v1alpha1", &list)
	names := make([]string, 0, len(list.APIResources))
	for _, resource := range list.APIResources {
		names = append(names, resource.Name)
	}
	return names, err
}

// missing returns text if the error is that something does not exist, and the
// error's own words otherwise.
func missing(err error, text string) string {
	if apierrors.IsNotFound(err) {
		return text
	}
	return err.Error()
}

// registered finds out whether kube-apiserver reaches the live API.
func (e examination) registered(ctx context.Context) finding {
	found := finding{Subject: "APIService", Result: findingBroken}
	var service struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	err := e.get(ctx, "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1."+livev1alpha1.GroupName, &service)
	switch {
	case apierrors.IsForbidden(err):
		found.Result, found.Message = findingUnknown, "you may not read it, which is usual; the next line tells whether it works"
		return found
	case err != nil:
		found.Message = missing(err, "the live API is not registered")
		found.Next = "install connpool: kubectl apply --server-side -k config/default"
		return found
	}
	for _, c := range service.Status.Conditions {
		if c.Type != "Available" {
			continue
		}
		if c.Status == metav1.ConditionTrue {
			found.Result, found.Message = findingOK, "kube-apiserver reaches the live API"
			return found
		}
		found.Message = c.Reason + ": " + c.Message
	}
	found.Message = display.OrNone(found.Message)
	found.Next = "look at the operator: kubectl -n connpool-system get pods; kubectl -n connpool-system logs deployment/connpool-manager"
	return found
}

// operator finds out whether the operator answers, and which it is.
func (e examination) operator(ctx context.Context) finding {
	found := finding{Subject: "operator", Result: findingBroken}
	start := time.Now()
	served, err := e.discover(ctx, livev1alpha1.GroupName)
	if err != nil {
		found.Message = missing(err, "no server answers for "+livev1alpha1.GroupName)
		found.Next = "look at the operator: kubectl -n connpool-system get pods"
		return found
	}
	took := time.Since(start)
	if !slices.Contains(served, cluster.Connections) {
		found.Message = "it answers, but without connections: another version serves this API"
		found.Next = "upgrade the operator or this program until both are of one version: " + e.program + " version"
		return found
	}
	found.Result = findingOK
	found.Message = "answers in " + display.Micros(took.Microseconds())
	if version, err := e.plain.OperatorVersion(ctx); err == nil {
		found.Message += ", version " + version
	}
	return found
}

// wanted is a request that a user may want to make.
type wanted struct {
	asked cluster.Asked
	// purpose names the commands that need it.
	purpose string
}

func (e examination) wanted() []wanted {
	n := e.namespace
	one := func(group, resource, verb, purpose string) wanted {
		return wanted{cluster.Asked{Group: group, Resource: resource, Verbs: []string{verb}, Namespace: n}, purpose}
	}
	return []wanted{
		one(v1alpha1.GroupName, cluster.Pools, "list", "status"),
		one(v1alpha1.GroupName, cluster.Targets, "list", "status, run --all"),
		one(v1alpha1.GroupName, cluster.Pools, "create", "declare pools"),
		one(v1alpha1.GroupName, cluster.Targets, "create", "declare targets"),
		one(livev1alpha1.GroupName, cluster.Connections, "list", "connections, top"),
		one(livev1alpha1.GroupName, cluster.Pools+"/exec", "create", "exec, run, cp, shell"),
		one(livev1alpha1.GroupName, cluster.Pools+"/exec", "get", "exec, run, cp, shell"),
		one(livev1alpha1.GroupName, cluster.Pools+"/portforward", "create", "port-forward"),
		one(livev1alpha1.GroupName, cluster.Pools+"/portforward", "get", "port-forward"),
		one(livev1alpha1.GroupName, cluster.Pools+"/proxy", "create", "proxy"),
		one(livev1alpha1.GroupName, cluster.Pools+"/proxy", "get", "proxy"),
		one(livev1alpha1.GroupName, cluster.Sessions, "create", "session create"),
		one(livev1alpha1.GroupName, cluster.Sessions, "list", "session list"),
		one(livev1alpha1.GroupName, cluster.Sessions, "delete", "session delete"),
		one(livev1alpha1.GroupName, cluster.Sessions+"/exec", "create", "session exec"),
		one(livev1alpha1.GroupName, cluster.Sessions+"/exec", "get", "session exec"),
		one(livev1alpha1.GroupName, cluster.Pools+"/drain", "create", "drain POOL"),
		one(livev1alpha1.GroupName, cluster.Connections+"/drain", "create", "drain connection/NAME"),
		one(livev1alpha1.GroupName, cluster.Targets+"/check", "create", "check"),
	}
}

// permissions finds out what the user may do, by asking for all at the same time.
func (e examination) permissions(ctx context.Context) []finding {
	all := e.wanted()
	findings := make([]finding, len(all))
	var asking sync.WaitGroup
	for i, w := range all {
		asking.Go(func() { findings[i] = e.permission(ctx, w) })
	}
	asking.Wait()
	return findings
}

// accessReview is a SelfSubjectAccessReview.
type accessReview struct {
	metav1.TypeMeta `json:",inline"`

	Spec struct {
		Attributes resourceAttributes `json:"resourceAttributes"`
	} `json:"spec"`
	Status struct {
		Allowed bool `json:"allowed"`
	} `json:"status,omitzero"`
}

type resourceAttributes struct {
	Namespace   string `json:"namespace"`
	Verb        string `json:"verb"`
	Group       string `json:"group"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
}

func (e examination) permission(ctx context.Context, w wanted) finding {
	resource, subresource, _ := strings.Cut(w.asked.Resource, "/")
	review := accessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}}
	review.Spec.Attributes = resourceAttributes{
		Namespace: w.asked.Namespace, Verb: w.asked.Verbs[0], Group: w.asked.Group, Resource: resource, Subresource: subresource,
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	found := finding{Subject: w.asked.Verbs[0] + " " + w.asked.Resource, Result: findingOK}
	found.Message = "permitted in namespace " + e.namespace + " (" + w.purpose + ")"
	err := e.plain.Post(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
	switch {
	case err != nil:
		found.Result, found.Message = findingUnknown, "cannot be asked: "+err.Error()
	case !review.Status.Allowed:
		found.Result = findingDenied
		found.Message = "not permitted in namespace " + e.namespace + " (" + w.purpose + ")"
		if subresource != "" {
			found.Message += ", unless by name: a Role with resourceNames is not seen here"
		}
		found.Next = fmt.Sprintf("ask for a Role with apiGroups: [%s], resources: [%s], verbs: [%s]",
			w.asked.Group, w.asked.Resource, w.asked.Verbs[0])
	}
	return found
}
