package target

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/cli/target/change"
)

// tryAll asks the server what it would make of the objects.
func (p *plan) tryAll(ctx context.Context, objects []runtime.Object) error {
	var differences []string
	for _, object := range objects {
		step, err := change.Of(ctx, p.plain, object)
		if err != nil {
			return p.explain(ctx, err)
		}
		p.steps = append(p.steps, step)
		for _, difference := range step.Differences {
			differences = append(differences, step.Name+" "+difference)
		}
	}
	if len(differences) == 0 || p.replace {
		return nil
	}
	return exit.Hint(fmt.Errorf("objects of these names exist and differ:\n%s", strings.Join(differences, "\n")),
		"To change them, add --replace. To leave them alone, choose another --name.")
}

// apply stores an object.
func (p *plan) apply(ctx context.Context, s change.Change) error {
	_, err := p.plain.Apply(ctx, s.Object, cluster.ApplyOptions{Force: p.replace})
	return p.explain(ctx, err)
}

// report does each step, unless do is nil, and says so as kubectl does.
func (p *plan) report(ctx context.Context, note string, do func(context.Context, change.Change) error) error {
	var printed []runtime.Object
	for _, s := range p.steps {
		if do != nil && s.State != change.Unchanged {
			if err := do(ctx, s); err != nil {
				return err
			}
		}
		if _, isSecret := s.Object.(*unstructured.Unstructured); !isSecret && s.Object != nil {
			printed = append(printed, s.Object)
		}
		if !p.Output.IsMachine() {
			fmt.Fprintf(p.Out, "%s %s%s\n", s.Name, s.State, note)
		}
	}
	if p.Output.IsMachine() {
		return sshhost.Write(p.Out, p.Output, printed)
	}
	return nil
}
