// Package doctor finds out whether connpool is installed and answers, and what the
// user may do in a namespace.
//
// It asks one question after the other, from the cluster to the operator, and
// then for all permissions at the same time. It changes nothing. The exit code is
// 1 only for what is broken; a missing permission is a finding, not a failure.
//
// Trade-off: a permission that a Role gives for one pool by its name is seen only if
// that pool is named: doctor POOL.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

type options struct {
	*plugin.Factory
	pool string
}

// Results of a question.
const (
	findingOK     = "ok"
	findingBroken = "broken"
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
		Use:   "doctor [POOL]",
		Short: "Check the installation, and what you may do",
		Long: "Check whether connpool is installed and answers, and what you may do in the\n" +
			"namespace, or with one pool. If you lack permissions, it prints one Role that would\n" +
			"grant them. It changes nothing. The exit code is 1 if something is broken; a missing\n" +
			"permission is not a failure.\n\n" +
			"A Role may permit the use of certain pools only, by their names (resourceNames). To\n" +
			"check that, name the pool.",
		Example: f.Examples(
			"in the namespace of the kubeconfig", "doctor", "in another one", "doctor -n prod",
			"what you may do with one pool", "doctor web"),
		Args:              plugin.Args(0, 1),
		ValidArgsFunction: f.CompletePool,
		RunE:              f.NamespacedE(o.complete, nil, o.run),
	}
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	o.pool = plugin.First(args)
	return nil
}

func (o *options) run(ctx context.Context) error {
	findings, e := o.examine(ctx)
	var rights []right
	if e != nil {
		if o.pool != "" {
			if err := o.Cluster.RequirePool(ctx, o.Namespace, o.pool); err != nil {
				return err
			}
		}
		rights = e.rights(ctx)
	}
	if o.Output.IsMachine() {
		report := map[string]any{"findings": findings, "rights": rights}
		if role := e.role(rights); role != "" {
			report["role"] = role
		}
		if err := o.Output.Encode(o.Out, report); err != nil {
			return err
		}
	} else {
		o.print(findings)
		o.printRights(e, rights)
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

// examine asks one question after the other. Without a cluster it stops at the first, and
// returns no examination.
func (o *options) examine(ctx context.Context) ([]finding, *examination) {
	plain, err := o.Cluster.Plain()
	if err != nil {
		const next = "name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context"
		return []finding{{"cluster", findingBroken, err.Error(), next}}, nil
	}
	e := &examination{c: o.Cluster, plain: plain, namespace: o.Namespace, pool: o.pool, program: o.Name}
	var findings []finding
	for _, question := range []struct {
		subject string
		ask     func(context.Context) finding
	}{{"cluster", e.cluster}, {v1alpha1.GroupName, e.declarative}, {"APIService", e.registered}, {"operator", e.operator}, {"way", e.way}} {
		found := question.ask(ctx)
		found.Subject = question.subject
		findings = append(findings, found)
		if findings[0].Result == findingBroken {
			return findings, nil
		}
	}
	if found := e.servesNamespace(ctx); found.Result != findingOK {
		findings = append(findings, found)
	}
	return findings, e
}

type examination struct {
	c               *cluster.Cluster
	plain           cluster.Plain
	namespace, pool string
	program         string
	// user is the name by which the cluster knows the user; "" if it does not say.
	user string
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
func (e *examination) cluster(ctx context.Context) finding {
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
		e.user = name
		message += "; you are " + name
	}
	return works(message)
}

// declarative finds out whether pools and targets can be declared. It reads
// discovery, which every user may read, and not the CRDs.
func (e *examination) declarative(ctx context.Context) finding {
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

func (e *examination) discover(ctx context.Context, group string) ([]string, error) {
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
func (e *examination) registered(ctx context.Context) finding {
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
		return finding{Result: findingUnknown, Message: "you may not read it, which is usual; the next line says whether it works"}
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
func (e *examination) operator(ctx context.Context) finding {
	start := time.Now()
	served, err := e.discover(ctx, livev1alpha1.GroupName)
	message := "answers in " + display.Micros(time.Since(start).Microseconds())
	switch {
	case err != nil:
		return broken(missing(err, "no server answers for "+livev1alpha1.GroupName), look)
	case !slices.Contains(served, cluster.Connections):
		return broken("it answers, but does not list connections: it is another version of the operator",
			"upgrade the operator or this program until both are of one version: "+e.program+" version")
	}
	if version, err := e.plain.OperatorVersion(ctx); err == nil {
		message += ", version " + version
	}
	return works(message)
}

// way finds out on which way commands reach the operator.
func (e *examination) way(ctx context.Context) finding {
	way, err := e.c.Road(ctx, true)
	if err != nil {
		return broken(err.Error(), strings.ReplaceAll(exit.HintOf(err), "\n", " "))
	}
	return works("requests go " + way.String())
}

// servesNamespace finds out whether the operator serves the namespace. An operator may watch
// some namespaces only. It says so to a user who may list connections there; of others, and of
// an operator that does not answer, nothing is known.
func (e *examination) servesNamespace(ctx context.Context) finding {
	var list metav1.PartialObjectMetadataList
	path := "/apis/" + livev1alpha1.GroupName + "/v1alpha1/namespaces/" + e.namespace + "/" + cluster.Connections + "?limit=1"
	err := e.plain.Get(ctx, path, &list)
	if !cluster.IsUnserved(err) {
		return works("")
	}
	message, next, _ := strings.Cut(err.Error(), "; ")
	return finding{Subject: "namespace", Result: findingBroken, Message: message, Next: next}
}
