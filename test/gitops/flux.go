package gitops

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// FluxStatus returns what Flux takes an object for by kstatus: Current, InProgress or
// Failed.
func FluxStatus(object *unstructured.Unstructured) (string, error) {
	result, err := status.Compute(object)
	if err != nil {
		return "", fmt.Errorf("compute the status: %w", err)
	}
	return result.Status.String(), nil
}

// Flux computes the health of the kinds for which Kustomizations have expressions.
type Flux struct {
	evaluators map[schema.GroupKind]*cel.StatusEvaluator
}

// LoadFlux reads the expressions of all Kustomizations in the file.
func LoadFlux(file string) (*Flux, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	flux := &Flux{map[schema.GroupKind]*cel.StatusEvaluator{}}
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var found kustomizev1.Kustomization
		if err := yaml.Unmarshal([]byte(document), &found); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		for _, check := range found.Spec.HealthCheckExprs {
			kind := schema.FromAPIVersionAndKind(check.APIVersion, check.Kind).GroupKind()
			if flux.evaluators[kind], err = cel.NewStatusEvaluator(&check.HealthCheckExpressions); err != nil {
				return nil, fmt.Errorf("read the expressions of %s in %s: %w", kind, file, err)
			}
		}
	}
	return flux, nil
}

// Status returns what Flux takes an object for by the expressions of its kind.
func (f *Flux) Status(ctx context.Context, object *unstructured.Unstructured) (string, error) {
	kind := object.GroupVersionKind().GroupKind()
	evaluator, found := f.evaluators[kind]
	if !found {
		return "", fmt.Errorf("no Kustomization has expressions for %s", kind)
	}
	result, err := evaluator.Evaluate(ctx, object)
	if err != nil {
		return "", fmt.Errorf("evaluate the expressions of %s: %w", kind, err)
	}
	return result.Status.String(), nil
}
