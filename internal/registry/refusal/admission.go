package refusal

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// RunAdmission runs the admission of a request that acts at once. Such a request
// cannot be a dry run.
func RunAdmission(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) error {
	if options != nil && len(options.DryRun) > 0 {
		return New(BadRequest, "dryRun is not supported: nothing can be said without doing it")
	}
	if validate == nil {
		return nil
	}
	return validate(ctx, object)
}
