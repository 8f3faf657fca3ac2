package chart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestHelmTestMayDoItsTestAndNothingElse lets helm make what its test needs, in a cluster
// without nodes: the pod is admitted, and waits. test/installed lets it run.
func TestHelmTestMayDoItsTestAndNothingElse(t *testing.T) {
	makeNamespace(t, space)
	makeNamespace(t, "team-a")
	tests := map[string]struct {
		namespace string
		values    []string
		right     string
	}{
		"without a pool it lists connections": {space, nil, "live.connpool.dev/connections[] list"},
		"with a pool it runs a command": {
			"team-a",
			[]string{"--set=tests.pool=web,tests.namespace=team-a"},
			"live.connpool.dev/connectionpools/exec[web] create get",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			account := named("v1", "ServiceAccount", space, "connpool-test")
			pod := &corev1.Pod{}
			pod.Namespace, pod.Name = space, "connpool-test"
			mustHelm(t, append([]string{"install", release, chartFolder}, tc.values...)...)
			_, err := helm(t.Context(), t, "test", release, "--timeout=2s", "--kubeconfig="+cluster.kubeconfig, "--namespace="+space)
			if err == nil || !exists(t, pod) || pod.Status.Phase != corev1.PodPending {
				t.Errorf("the pod is %s: %v", pod.Status.Phase, err)
			}
			if exists(t, account) {
				t.Error("the test has left its ServiceAccount")
			}
			_ = cluster.admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0))
			mustHelm(t, "uninstall", release)

			for key, object := range render(t, tc.values...) {
				if object.GetAnnotations()["helm.sh/hook"] != "test" || object.GetKind() == "Pod" {
					continue
				}
				if err := cluster.admin.Create(t.Context(), object); err != nil {
					t.Fatalf("%s: %v", key, err)
				}
				defer func() { _ = cluster.admin.Delete(t.Context(), object) }()
			}
			granted := rightsOf(t, "system:serviceaccount:"+space+":connpool-test", tc.namespace)
			want := []string{"apiregistration.k8s.io/apiservices[v1alpha1.live.connpool.dev] get", tc.right}
			if diff := cmp.Diff(want, granted); diff != "" {
				t.Errorf("rights (-want +got):\n%s", diff)
			}
		})
	}
}

func ruleLine(rule authorizationv1.ResourceRule) string {
	slices.Sort(rule.Verbs)
	return fmt.Sprintf("%s/%s%s %s",
		strings.Join(rule.APIGroups, ","), strings.Join(rule.Resources, ","), rule.ResourceNames, strings.Join(rule.Verbs, " "))
}

// rightsOf returns what a ServiceAccount may do in a namespace and an unknown one may not.
func rightsOf(t *testing.T, user, namespace string) []string {
	t.Helper()
	review := func(name string) []string {
		config := rest.CopyConfig(cluster.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated", "system:serviceaccounts"}}
		api, err := client.New(config, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		asked := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
		if err := api.Create(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, rule := range asked.Status.ResourceRules {
			lines = append(lines, ruleLine(rule))
		}
		return lines
	}
	every := review("system:serviceaccount:unknown:unknown")
	granted := slices.DeleteFunc(review(user), func(line string) bool { return slices.Contains(every, line) })
	slices.Sort(granted)
	return granted
}
