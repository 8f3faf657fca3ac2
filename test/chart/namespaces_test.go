package chart_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const goldenRole = "../conventions/testdata/manager-role.txt"

// rights returns "resource.group: verbs" of a Role or ClusterRole, as the golden file
// has them.
func rights(t *testing.T, object *unstructured.Unstructured) []string {
	t.Helper()
	var role rbacv1.ClusterRole
	if object == nil {
		t.Fatal("a role is missing")
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				slices.Sort(rule.Verbs)
				lines = append(lines, strings.TrimSuffix(resource+"."+group, ".")+": "+strings.Join(rule.Verbs, " "))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func TestWatchedNamespacesHaveTheRightsOfTheClusterRole(t *testing.T) {
	golden, err := os.ReadFile(goldenRole)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(golden)), "\n")
	rendered := render(t, "--set=watchNamespaces={team-a,team-b}")
	everywhere := rights(t, rendered["ClusterRole  connpool-manager-role"])
	if diff := cmp.Diff([]string{"serviceaccounts: get"}, everywhere); diff != "" {
		t.Errorf("in all namespaces (-want +got):\n%s", diff)
	}
	for _, namespace := range []string{"team-a", "team-b"} {
		got := slices.Sorted(slices.Values(slices.Concat(everywhere, rights(t, rendered["Role "+namespace+" connpool-manager"]))))
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("in %s (-golden +got):\n%s", namespace, diff)
		}
		if rendered["RoleBinding "+namespace+" connpool-manager"] == nil {
			t.Errorf("the Role of %s is bound to no one", namespace)
		}
	}
}

func TestNoClusterRoleOfWatchedNamespacesReadsSecrets(t *testing.T) {
	rendered := render(t, "--set=watchNamespaces={team-a}")
	for _, key := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasPrefix(key, "ClusterRole ") {
			continue
		}
		for _, line := range rights(t, rendered[key]) {
			if strings.HasPrefix(line, "secrets:") || strings.HasPrefix(line, "configmaps:") {
				t.Errorf("%s has %s", key, line)
			}
		}
	}
}

func TestEveryRoleOfTheChartSaysWhatItIsFor(t *testing.T) {
	for _, values := range []string{"watchNamespaces={}", "watchNamespaces={team-a}"} {
		text, err := helm(t.Context(), t, "template", release, chartFolder, "--namespace="+space, "--set="+values)
		if err != nil {
			t.Fatal(err)
		}
		roles := 0
		for document := range strings.SplitSeq(text, "\n---\n") {
			if !strings.Contains(document, "\nkind: Role\n") && !strings.Contains(document, "\nkind: ClusterRole\n") {
				continue
			}
			roles++
			above, _, _ := strings.Cut(document, "\napiVersion:")
			if !strings.Contains(above, "\n# ") { // the first line is helm's
				t.Errorf("with %s no comment says what this is for:\n%s", values, document)
			}
		}
		if roles < 10 {
			t.Errorf("with %s there are only %d roles", values, roles)
		}
	}
}
