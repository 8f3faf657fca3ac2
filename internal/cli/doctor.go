package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// doctorTimeout bounds each question that doctor asks.
const doctorTimeout = 10 * time.Second

// doctorOptions find out whether all is installed and permitted.
type doctorOptions struct {
	*factory
	output    output
	namespace string
}

// Results of a question.
const (
	findingOK     = "ok"
	findingBroken = "broken"
	// findingDenied is a thing that works, but not for you.
	findingDenied = "denied"
	// findingUnknown is a thing that could not be looked at.
	findingUnknown = "unknown"
)

// finding is the answer to one question.
type finding struct {
	// Subject is what was looked at.
	Subject string `json:"subject"`
	Result  string `json:"result"`
	Message string `json:"message"`
	// Next is what to do about it.
	Next string `json:"next,omitempty"`
}

// newDoctorCommand finds out whether all is installed and permitted.
func newDoctorCommand(f *factory) *cobra.Command {
	o := &doctorOptions{factory: f}
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Find out whether everything is installed, and what you may do",
		Long: "Find out whether connpool is installed and answers, and what you may do in the\n" +
			"namespace. It changes nothing. The exit code is 1 if something is broken; what\n" +
			"you merely may not do is no failure.",
		Example: f.examples("in the namespace of the kubeconfig", "doctor", "in another one", "doctor -n prod"),
		Args:    cobra.NoArgs,
		RunE:    runs(o),
	}
	o.output.register(command, outputJSON, outputYAML)
	return command
}

func (o *doctorOptions) complete(*cobra.Command, []string) (err error) {
	o.namespace, err = o.factory.namespace()
	return err
}

func (o *doctorOptions) validate() error { return o.output.validate() }

func (o *doctorOptions) run(ctx context.Context) error {
	findings := o.examine(ctx)
	if o.output.machine() {
		if err := o.output.encode(o.Out, map[string]any{"findings": findings}); err != nil {
			return err
		}
	} else {
		o.print(findings)
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Result == findingBroken }) {
		return exitWith(1)
	}
	return nil
}

func (o *doctorOptions) print(findings []finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Subject))
	}
	p := paintFor(o.Out)
	for _, f := range findings {
		fmt.Fprintf(o.Out, "%s %-*s  %s\n", p.sign(f.Result), width, f.Subject, oneLine(f.Message))
		if f.Next != "" {
			fmt.Fprintf(o.Out, "  %*s  next: %s\n", width, "", oneLine(f.Next))
		}
	}
}

// sign marks a finding.
func (p paint) sign(result string) string {
	switch result {
	case findingOK:
		return p.mark(true)
	case findingBroken:
		return p.mark(false)
	default:
		return p.in(yellow, "!")
	}
}

// examine asks one thing after the other; without a cluster there is no second.
func (o *doctorOptions) examine(ctx context.Context) []finding {
	plain, err := o.plain()
	if err != nil {
		const next = "name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context"
		return []finding{{"cluster", findingBroken, err.Error(), next}}
	}
	e := examination{plain: plain, namespace: o.namespace, name: o.name}
	cluster := e.cluster(ctx)
	if cluster.Result == findingBroken {
		return []finding{cluster}
	}
	findings := []finding{cluster, e.declarative(ctx), e.registered(ctx), e.operator(ctx)}
	return append(findings, e.permissions(ctx)...)
}

// examination asks a cluster.
type examination struct {
	plain     plainClient
	namespace string
	name      string
}

func (e examination) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	return e.plain.get(ctx, path, into)
}

// cluster finds out whether the cluster answers, and who we are to it.
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
	found.Message = fmt.Sprintf("%s answers with Kubernetes %s%s", e.plain.base, version.GitVersion, e.identity(ctx))
	return found
}

// identity is who the cluster takes us for, if it tells.
func (e examination) identity(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	name, err := e.plain.whoAmI(ctx)
	if err != nil || name == "" {
		return ""
	}
	return "; you are " + name
}

// declarative finds out whether pools and targets can be declared. Discovery
// tells everybody, while CRDs can be read by few.
func (e examination) declarative(ctx context.Context) finding {
	const next = "install connpool: kubectl apply --server-side -k config/default"
	found := finding{Subject: v1alpha1.GroupName, Result: findingBroken, Next: next}
	served, err := e.discover(ctx, v1alpha1.GroupName)
	if err != nil {
		found.Message = missing(err, "the custom resources are not installed")
		return found
	}
	for _, resource := range []string{pools, targets} {
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

// missing says that something is not there if the error does.
func missing(err error, text string) string {
	if apierrors.IsNotFound(err) {
		return text
	}
	return err.Error()
}

// registered finds out what kube-apiserver thinks of the live API.
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
	found.Message = orNone(found.Message)
	found.Next = "look at the operator: kubectl -n connpool-system get pods; kubectl -n connpool-system logs deployment/connpool-manager"
	return found
}

// operator finds out whether the operator answers, and which it is.
func (e examination) operator(ctx context.Context) finding {
	found := finding{Subject: "operator", Result: findingBroken}
	start := time.Now()
	served, err := e.discover(ctx, livev1alpha1.GroupName)
	if err != nil {
		found.Message = missing(err, "nobody serves "+livev1alpha1.GroupName)
		found.Next = "look at the operator: kubectl -n connpool-system get pods"
		return found
	}
	took := time.Since(start)
	if !slices.Contains(served, "connections") {
		found.Message = "it answers, but without connections: another version serves this API"
		found.Next = "upgrade the operator or this program until both are of one version: " + e.name + " version"
		return found
	}
	found.Result = findingOK
	found.Message = "answers in " + micros(took.Microseconds())
	if version, err := serverVersion(ctx, e.plain); err == nil {
		found.Message += ", version " + version
	}
	return found
}

// wanted is a thing that somebody may want to do.
type wanted struct {
	asked asked
	// what it is for.
	purpose string
}

func (e examination) wanted() []wanted {
	n := e.namespace
	one := func(group, resource, verb, purpose string) wanted {
		return wanted{asked{group: group, resource: resource, verbs: []string{verb}, namespace: n}, purpose}
	}
	return []wanted{
		one(v1alpha1.GroupName, pools, "list", "status"),
		one(v1alpha1.GroupName, targets, "list", "status, run --all"),
		one(v1alpha1.GroupName, pools, "create", "declare pools"),
		one(v1alpha1.GroupName, targets, "create", "declare targets"),
		one(livev1alpha1.GroupName, "connections", "list", "connections, top"),
		one(livev1alpha1.GroupName, pools+"/exec", "create", "exec, run, cp, shell"),
		one(livev1alpha1.GroupName, pools+"/exec", "get", "exec, run, cp, shell"),
		one(livev1alpha1.GroupName, pools+"/portforward", "create", "port-forward"),
		one(livev1alpha1.GroupName, pools+"/portforward", "get", "port-forward"),
		one(livev1alpha1.GroupName, pools+"/proxy", "create", "proxy"),
		one(livev1alpha1.GroupName, pools+"/proxy", "get", "proxy"),
		one(livev1alpha1.GroupName, sessions, "create", "session create"),
		one(livev1alpha1.GroupName, sessions, "list", "session list"),
		one(livev1alpha1.GroupName, sessions, "delete", "session delete"),
		one(livev1alpha1.GroupName, sessions+"/exec", "create", "session exec"),
		one(livev1alpha1.GroupName, sessions+"/exec", "get", "session exec"),
		one(livev1alpha1.GroupName, pools+"/drain", "create", "drain POOL"),
		one(livev1alpha1.GroupName, "connections/drain", "create", "drain connection/NAME"),
		one(livev1alpha1.GroupName, targets+"/check", "create", "check"),
	}
}

// permissions finds out what we may do, all at the same time.
func (e examination) permissions(ctx context.Context) []finding {
	all := e.wanted()
	findings := make([]finding, len(all))
	done := make(chan struct{})
	for i, w := range all {
		go func() {
			findings[i] = e.permission(ctx, w)
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
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
	resource, subresource, _ := strings.Cut(w.asked.resource, "/")
	review := accessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}}
	review.Spec.Attributes = resourceAttributes{
		Namespace: w.asked.namespace, Verb: w.asked.verbs[0], Group: w.asked.group, Resource: resource, Subresource: subresource,
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	found := finding{Subject: w.asked.verbs[0] + " " + w.asked.resource, Result: findingOK}
	found.Message = "permitted in namespace " + e.namespace + " (" + w.purpose + ")"
	err := e.plain.post(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
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
			w.asked.group, w.asked.resource, w.asked.verbs[0])
	}
	return found
}
