package cluster

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

func TestErrorsAreInWordsForPeople(t *testing.T) {
	refused := func(message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: message}}
	}
	notStarted := func(err error) error {
		return &client.Error{Outcome: livev1alpha1.OutcomeNotStarted, Message: err.Error(), Err: err}
	}
	command, forward := AskedToStream("exec", "shop", "web", ""), AskedToStream("portforward", "shop", "web", "")
	tests := map[string]struct {
		err  error
		what Asked
		want string
	}{
		"a field that is required": {
			notStarted(refused("pod: Required value: target c is of type kubernetes: name the pod")), command,
			"the command was not started: target c is of type kubernetes: name the pod",
		},
		"a place that has to be named": {
			notStarted(refused("name the container; running on ci: web, db")), command,
			"the command was not started: name the container with --container; running on ci: web, db",
		},
		"a field that must not be there has the name of its flag": {
			notStarted(refused("spec.container: Forbidden: target db is of type ssh, which has no containers; leave the container out")), forward,
			"--container: target db is of type ssh, which has no containers; leave the container out",
		},
		"one fact about two fields is said once": {
			refused("[pod: Forbidden: target db has no pods, namespace: Forbidden: target db has no pods]"), command, "--pod: target db has no pods",
		},
		"two facts are two clauses": {
			refused(`[pod: Invalid value: "A": must be small, namespace: Invalid value: "B": must be short (e.g. 'b', regex [b])]`), command,
			`--pod: "A": must be small; --pod-namespace: "B": must be short`,
		},
		"a message with a colon is no field": {
			refused("spec: the pool web may have several targets; name one"), command, "spec: the pool web may have several targets; name one",
		},
		"a pool that does not exist": {
			notStarted(apierrors.NewNotFound(v1alpha1.Resource("connectionpools"), "wbe")), command, `there is no pool "wbe" in namespace shop`,
		},
		"a target that does not exist": {
			apierrors.NewNotFound(v1alpha1.Resource("connectiontargets"), "w"), Asked{}, `there is no target "w"`,
		},
		"no command is mentioned where there is none": {
			&client.Error{Outcome: livev1alpha1.OutcomeNotStarted, Message: "the pool is full", RequestID: "r-1"}, forward, "the pool is full (request r-1)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := inWords(test.err, test.what)
			if diff := cmp.Diff(test.want, got.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !errors.Is(got, test.err) {
				t.Error("the error itself is lost")
			}
		})
	}
}
