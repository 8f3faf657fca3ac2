package conventions

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "accept the present state as golden")

const (
	managerRole = "config/rbac/role.yaml"
	goldenRole  = "test/conventions/testdata/manager-role.txt"
)

func manifestRules() []rule {
	return []rule{
		{
			name:  "every kustomization renders",
			why:   "users apply them",
			check: unrendered,
			bad: map[string]string{
				"config/a/kustomization.yaml": "resources: [missing.yaml]\n",
				"config/b/kustomization.yaml": "resources: [present.yaml]\n",
				"config/b/present.yaml":       "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
			},
			want: []string{"config/a: does not render"},
		},
		{
			name:  "no role has wildcards, and none can widen itself",
			why:   "an attacker who takes over the operator must get no more rights than the role lists",
			check: wideRoles,
			bad: map[string]string{
				"config/rbac/x.yaml": "kind: ClusterRole\nmetadata: {name: bad}\nrules:\n" +
					"- {apiGroups: [\"\"], resources: [\"*\"], verbs: [get]}\n" +
					"- {apiGroups: [\"\"], resources: [users], verbs: [impersonate]}\n" +
					"---\nkind: Role\nmetadata: {name: good}\nrules:\n" +
					"- {apiGroups: [\"\"], resources: [pods], verbs: [get]}\n",
			},
			want: []string{"config/rbac/x.yaml: ClusterRole bad: *", "config/rbac/x.yaml: ClusterRole bad: impersonate"},
		},
		{
			name:  "the manager's role is the golden one",
			why:   "it grows by markers in the code, and each new right deserves a second look: make update-conventions accepts it",
			check: roleDrift,
			bad: map[string]string{
				managerRole: "kind: ClusterRole\nmetadata: {name: manager-role}\nrules:\n" +
					"- {apiGroups: [\"\"], resources: [secrets], verbs: [list, get, delete]}\n",
				goldenRole: "secrets: get list\n",
			},
			want: []string{managerRole + ": has secrets: delete get list", managerRole + ": lacks secrets: get list"},
		},
		{
			name: "pods meet the restricted Pod Security Standard, with a read-only root",
			why:  "the operator holds keys to other machines, so its pods must be hard to escape from and to change",
			check: func(repository tree) []string {
				return inPods(repository, openDoors)
			},
			bad: map[string]string{
				"config/manager/bad.yaml": "kind: Deployment\nmetadata: {name: x}\nspec:\n  template:\n    spec:\n" +
					"      hostNetwork: true\n      volumes: [{name: v, hostPath: {path: /}}]\n      containers: [{name: c}]\n",
			},
			want: []string{
				"config/manager/bad.yaml: c: capabilities.drop is not [ALL]",
				"config/manager/bad.yaml: c: has no memory limit and requests",
				"config/manager/bad.yaml: c: not allowPrivilegeEscalation: false",
				"config/manager/bad.yaml: c: not readOnlyRootFilesystem: true",
				"config/manager/bad.yaml: not runAsNonRoot: true",
				"config/manager/bad.yaml: seccompProfile is not RuntimeDefault",
				"config/manager/bad.yaml: shares a namespace of the host",
				"config/manager/bad.yaml: volume v is of the host",
			},
		},
	}
}

// manifest is one object of a file under config.
type manifest struct {
	path string
	unstructured.Unstructured
}

func manifests(repository tree) []manifest {
	var all []manifest
	for _, name := range slices.Sorted(maps.Keys(repository.text)) {
		if !strings.HasPrefix(name, "config/") || path.Ext(name) != ".yaml" {
			continue
		}
		for document := range strings.SplitSeq(repository.text[name], "\n---") {
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(document), &object); err == nil && object["kind"] != nil {
				all = append(all, manifest{name, unstructured.Unstructured{Object: object}})
			}
		}
	}
	return all
}

func unrendered(repository tree) []string {
	files := filesys.MakeFsInMemory()
	var folders []string
	for _, name := range slices.Sorted(maps.Keys(repository.text)) {
		if !strings.HasPrefix(name, "config/") {
			continue
		}
		if err := files.WriteFile("/"+name, []byte(repository.text[name])); err != nil {
			return []string{err.Error()}
		}
		if path.Base(name) == "kustomization.yaml" {
			folders = append(folders, path.Dir(name))
		}
	}
	var found []string
	for _, folder := range folders {
		rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/"+folder)
		isComponent := strings.Contains(repository.text[folder+"/kustomization.yaml"], "\nkind: Component\n") // it may only patch
		if err != nil || rendered.Size() == 0 && !isComponent {
			found = append(found, folder+": does not render")
		}
	}
	return found
}

// wide are the verbs and names with which a role reaches beyond its own rules.
var wide = []string{"*", "impersonate", "escalate", "bind"}

func wideRoles(repository tree) []string {
	var found []string
	for _, m := range manifests(repository) {
		for _, r := range roleRules(m) {
			for _, word := range slices.Concat(r.APIGroups, r.Resources, r.Verbs, r.NonResourceURLs) {
				if slices.Contains(wide, word) {
					found = append(found, fmt.Sprintf("%s: %s %s: %s", m.path, m.GetKind(), m.GetName(), word))
				}
			}
		}
	}
	return found
}

// roleRules returns the rules of a Role or ClusterRole. Other objects have no rules.
func roleRules(m manifest) []rbacv1.PolicyRule {
	var role rbacv1.ClusterRole
	if m.GetKind() != "Role" && m.GetKind() != "ClusterRole" {
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m.Object, &role); err != nil {
		return []rbacv1.PolicyRule{{Verbs: []string{"*"}}} // unreadable is as bad as unbounded
	}
	return role.Rules
}

func roleDrift(repository tree) []string {
	golden := strings.Split(strings.TrimSpace(repository.text[goldenRole]), "\n")
	present := roleLines(repository)
	var found []string
	for _, line := range present {
		if !slices.Contains(golden, line) {
			found = append(found, managerRole+": has "+line)
		}
	}
	for _, line := range golden {
		if !slices.Contains(present, line) {
			found = append(found, managerRole+": lacks "+line)
		}
	}
	return found
}

// roleLines returns the manager's rights, a line for each resource, sorted:
// "resource.group: verbs".
func roleLines(repository tree) []string {
	verbs := map[string][]string{}
	for _, m := range manifests(repository) {
		if m.path != managerRole {
			continue
		}
		for _, r := range roleRules(m) {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					name := strings.TrimSuffix(resource+"."+group, ".")
					verbs[name] = append(verbs[name], r.Verbs...)
				}
			}
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		slices.Sort(verbs[name])
		lines = append(lines, name+": "+strings.Join(slices.Compact(verbs[name]), " "))
	}
	return lines
}

func TestUpdateTheGoldenRole(t *testing.T) {
	if !*update {
		return // the rule about the golden role does the comparing
	}
	text := strings.Join(roleLines(load(t, os.DirFS("../.."))), "\n") + "\n"
	if err := os.WriteFile("../../"+goldenRole, []byte(text), 0o600); err != nil {
		t.Fatalf("update the golden role: %v", err)
	}
}

// inPods applies a check to the pods of all Deployments.
func inPods(repository tree, check func(corev1.PodSpec) []string) []string {
	var found []string
	for _, m := range manifests(repository) {
		if m.GetKind() != "Deployment" {
			continue
		}
		template, _, err := unstructured.NestedMap(m.Object, "spec", "template", "spec")
		var pod corev1.PodSpec
		if err == nil {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod)
		}
		if err != nil {
			found = append(found, m.path+": unreadable pod: "+err.Error())
			continue
		}
		for _, what := range check(pod) {
			found = append(found, m.path+": "+what)
		}
	}
	return found
}

// openDoors returns what a pod has that the restricted standard refuses.
func openDoors(pod corev1.PodSpec) []string {
	var found []string
	report := func(bad bool, what string) {
		if bad {
			found = append(found, what)
		}
	}
	security := pod.SecurityContext
	report(pod.HostNetwork || pod.HostPID || pod.HostIPC, "shares a namespace of the host")
	report(security == nil || !isTrue(security.RunAsNonRoot), "not runAsNonRoot: true")
	report(security == nil || security.SeccompProfile == nil ||
		security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, "seccompProfile is not RuntimeDefault")
	for _, volume := range pod.Volumes {
		report(volume.HostPath != nil, "volume "+volume.Name+" is of the host")
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, what := range openContainer(container) {
			found = append(found, container.Name+": "+what)
		}
	}
	return found
}

func openContainer(container corev1.Container) []string {
	security := container.SecurityContext
	if security == nil {
		security = &corev1.SecurityContext{}
	}
	drop := []corev1.Capability{}
	if security.Capabilities != nil {
		drop = security.Capabilities.Drop
	}
	resources := container.Resources
	var found []string
	for what, holds := range map[string]bool{
		"not allowPrivilegeEscalation: false": security.AllowPrivilegeEscalation != nil && !*security.AllowPrivilegeEscalation,
		"not readOnlyRootFilesystem: true":    isTrue(security.ReadOnlyRootFilesystem),
		"capabilities.drop is not [ALL]":      slices.Equal(drop, []corev1.Capability{"ALL"}),
		"has no memory limit and requests":    !resources.Limits.Memory().IsZero() && len(resources.Requests) > 0,
	} {
		if !holds {
			found = append(found, what)
		}
	}
	slices.Sort(found)
	return found
}

func isTrue(value *bool) bool { return value != nil && *value }
