package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/target/change"
	"github.com/connpool/connpool/internal/cli/terminal"
)

// plan is what target add will do, known before anything is done.
type plan struct {
	*addOptions

	plain cluster.Plain
	key   *identity // nil if the Secret exists
	// jump is the jump host, and hosts are those to which the key must go.
	jump  *v1alpha1.ConnectionTarget
	hosts []string
	host  hostKeys
	steps []change.Change
	// byName says that commands name the target beside the pool.
	byName bool
}

// prepare finds out everything, and tries everything as a dry run.
func (p *plan) prepare(ctx context.Context) error {
	p.target.Namespace = p.Namespace
	if err := p.findJump(ctx); err != nil {
		return err
	}
	existing, err := p.existing(ctx)
	if err != nil {
		return err
	}
	dial, stop := p.dialer(ctx)
	defer stop()
	if p.host, err = p.findHostKeys(ctx, existing, dial); err != nil {
		return err
	}
	p.target.HostKeys = p.host.keys
	pool, err := p.joinPool(ctx)
	if err != nil {
		return err
	}
	var objects []runtime.Object
	if p.key != nil {
		objects = append(objects, p.key.secret(p.target.Secret, p.Namespace, p.hosts))
	} else if err := p.checkSecret(ctx); err != nil {
		return err
	}
	// The target is the last, so that the operator finds all that it needs.
	if pool != nil {
		objects = append(objects, pool)
	}
	objects = append(objects, p.target.Object())
	return p.tryAll(ctx, objects)
}

// maxJumps is how many jump hosts a chain may have.
const maxJumps = 3

// findJump reads the chain of jump hosts.
func (p *plan) findJump(ctx context.Context) error {
	p.hosts = []string{p.target.Host}
	objects, err := p.Cluster.Objects()
	if err != nil {
		return err
	}
	next := p.target.Jump
	for range maxJumps {
		if next == "" {
			return nil
		}
		jump, err := objects.Target(ctx, types.NamespacedName{Namespace: p.Namespace, Name: next})
		if err != nil {
			return p.Cluster.Explain(ctx, err, cluster.AskedToGet(cluster.Targets, p.Namespace, next))
		}
		if jump.Spec.SSH == nil {
			return fmt.Errorf("target %s is not an ssh target, and only those can be jump hosts", next)
		}
		p.jump = cmp.Or(p.jump, jump)
		if !slices.Contains(p.hosts, jump.Spec.SSH.Host) {
			p.hosts = append(p.hosts, jump.Spec.SSH.Host)
		}
		next = ""
		if ref := jump.Spec.SSH.JumpTargetRef; ref != nil {
			next = ref.Name
		}
	}
	return nil
}

// existing returns the ssh part of the target, if it exists already.
func (p *plan) existing(ctx context.Context) (*v1alpha1.SSHTarget, error) {
	objects, err := p.Cluster.Objects()
	if err != nil {
		return nil, err
	}
	target, err := objects.Target(ctx, types.NamespacedName{Namespace: p.Namespace, Name: p.target.Name})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	return target.Spec.SSH, p.explain(ctx, err)
}

// checkSecret looks whether targets may use the Secret that the user names. A user who
// may not read Secrets is not kept from naming one.
func (p *plan) checkSecret(ctx context.Context) error {
	var secret metav1.PartialObjectMetadata
	err := p.plain.Get(ctx, "/api/v1/namespaces/"+p.Namespace+"/secrets/"+p.target.Secret, &secret)
	switch {
	case apierrors.IsForbidden(err):
		exit.PrintNote(p.ErrOut, fmt.Sprintf(
			"you may not read Secrets, so it turns out at the end whether %s can be used", p.target.Secret))
		return nil
	case apierrors.IsNotFound(err):
		return exit.Hint(err, "Name one that exists with --secret, or have one made with --identity FILE.")
	case err != nil:
		return p.explain(ctx, err)
	case secret.Labels[v1alpha1.CredentialsLabel] != v1alpha1.CredentialsLabelValue:
		return exit.Hint(fmt.Errorf("the Secret %s lacks the label that lets targets use it", p.target.Secret),
			"kubectl label secret %s --namespace %s %s=%s",
			p.target.Secret, p.Namespace, v1alpha1.CredentialsLabel, v1alpha1.CredentialsLabelValue)
	}
	return nil
}

// explain adds the next step to an error of the cluster. Of rights it names all that
// target add needs, so that the user asks for them once.
func (p *plan) explain(ctx context.Context, err error) error {
	verbs := []string{"get", "create", "patch"}
	asked := cluster.Asked{
		Group: v1alpha1.GroupName, Resource: cluster.Targets, Verbs: verbs, Namespace: p.Namespace,
		With: []cluster.Asked{{Group: v1alpha1.GroupName, Resource: cluster.Pools, Verbs: verbs}},
	}
	if p.key != nil {
		asked.With = append(asked.With, cluster.Asked{Resource: "secrets", Verbs: verbs})
	}
	return p.Cluster.Explain(ctx, err, asked)
}

// errDeclined says that the user does not want it.
var errDeclined = errors.New("nothing was changed")

// ask lets the user decide about what only a person can know: whether the host key is the
// host's, and whether their own key may be stored.
func (p *plan) ask(ctx context.Context) error {
	changes := slices.ContainsFunc(p.steps, func(s change.Change) bool { return s.State != change.Unchanged })
	trust := p.host.firstSeen && !p.yes
	if !changes || !trust && (p.key == nil || !p.key.personal) {
		return nil
	}
	p.show()
	question := "Make them?"
	if trust {
		question = "Trust this host key, and make them?"
	}
	yes, err := terminal.Confirm(ctx, p.In, p.ErrOut, question)
	switch {
	case errors.Is(err, terminal.ErrNoTerminal):
		return exit.Hint(errors.New("the host key is not known yet, and there is no terminal to ask whether it is right"),
			"Compare the fingerprint, and run this again with --host-key-fingerprint SHA256:..., or trust what was shown with --yes.")
	case err != nil:
		return err
	case !yes:
		return errDeclined
	}
	return nil
}

// show lists what will be made.
func (p *plan) show() {
	fmt.Fprintf(p.ErrOut, "To be created in namespace %s:\n\n", p.Namespace)
	t := &display.Table{Columns: []string{"", ""}}
	for _, s := range p.steps {
		switch s.Object.(type) {
		case *unstructured.Unstructured:
			t.Add(s.Name, p.key.describe())
		case *v1alpha1.ConnectionTarget:
			t.Add(s.Name, p.target.User+"@"+p.target.Address.String())
		case *v1alpha1.ConnectionPool:
			t.Add(s.Name, "keeps a connection warm")
		}
	}
	fmt.Fprintf(p.ErrOut, "  %s\n\n", strings.Join(t.Lines()[1:], "\n  "))
}
