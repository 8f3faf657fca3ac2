package conventions

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// goldenRoles has the rights of the roles that are written by hand.
const goldenRoles = "test/conventions/testdata/roles.txt"

func rightRules() []rule {
	return []rule{
		{
			name:  "every role says what it is for",
			why:   "a platform team asks of each right why the operator or its users need it, before it installs the manifests",
			check: rolesWithoutReason,
			bad: map[string]string{
				"config/rbac/a.yaml": "kind: Role\nmetadata: {name: silent}\n---\n# For people.\nkind: ClusterRole\nmetadata: {name: good}\n",
			},
			want: []string{"config/rbac/a.yaml: Role silent: no comment above it says why it is needed"},
		},
		{
			name:  "the roles written by hand are the golden ones",
			why:   "each new right deserves a second look: make update-conventions accepts it",
			check: rightsDrift,
			bad: map[string]string{
				"config/rbac/a.yaml": "kind: Role\nmetadata: {name: x}\nrules:\n- {apiGroups: [\"\"], resources: [secrets], resourceNames: [a], verbs: [get]}\n",
				goldenRoles:          "config/rbac/a.yaml Role x: secrets: get\n",
			},
			want: []string{
				"config/rbac/a.yaml Role x: secrets: get: is golden, and is not there",
				"config/rbac/a.yaml Role x: secrets[a]: get: is there, and is not golden",
			},
		},
	}
}

func rolesWithoutReason(repository tree) []string {
	var found []string
	for name, text := range repository.text {
		if !strings.HasPrefix(name, "config/") || path.Ext(name) != ".yaml" {
			continue
		}
		// A generated file has its header above the first separator.
		for document := range strings.SplitSeq(strings.Replace(text, "\n---\n", "\n", headers(text)), "\n---\n") {
			var object struct {
				Kind     string
				Metadata struct{ Name string }
			}
			err := yaml.Unmarshal([]byte(document), &object)
			if err == nil && (object.Kind == "Role" || object.Kind == "ClusterRole") && !strings.HasPrefix(document, "# ") {
				found = append(found, fmt.Sprintf("%s: %s %s: no comment above it says why it is needed", name, object.Kind, object.Metadata.Name))
			}
		}
	}
	slices.Sort(found)
	return found
}

// headers returns 1 if only comments are above the first separator of documents, else 0.
func headers(text string) int {
	above, _, _ := strings.Cut(text, "\n---\n")
	var object any
	if err := yaml.Unmarshal([]byte(above), &object); err == nil && object == nil {
		return 1
	}
	return 0
}

// rightsLines returns a line for each resource of each rule of the roles that are not
// generated: "file kind name: resource.group[names]: verbs".
func rightsLines(repository tree) []string {
	var lines []string
	for _, m := range manifests(repository) {
		if m.path == managerRole {
			continue
		}
		for _, r := range roleRules(m) {
			slices.Sort(r.Verbs)
			names := ""
			if len(r.ResourceNames) > 0 {
				names = fmt.Sprint(r.ResourceNames)
			}
			what := slices.Clone(r.NonResourceURLs)
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					what = append(what, strings.TrimSuffix(resource+"."+group, ".")+names)
				}
			}
			for _, each := range what {
				lines = append(lines, fmt.Sprintf("%s %s %s: %s: %s", m.path, m.GetKind(), m.GetName(), each, strings.Join(r.Verbs, " ")))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func rightsDrift(repository tree) []string {
	golden, present := strings.Split(strings.TrimSpace(repository.text[goldenRoles]), "\n"), rightsLines(repository)
	var found []string
	for _, line := range present {
		if !slices.Contains(golden, line) {
			found = append(found, line+": is there, and is not golden")
		}
	}
	for _, line := range golden {
		if line != "" && !slices.Contains(present, line) {
			found = append(found, line+": is golden, and is not there")
		}
	}
	slices.Sort(found)
	return found
}

func TestUpdateTheGoldenRoles(t *testing.T) {
	if !*update {
		return // the rule about the golden roles does the comparing
	}
	text := strings.Join(rightsLines(load(t, os.DirFS("../.."))), "\n") + "\n"
	if err := os.WriteFile("../../"+goldenRoles, []byte(text), 0o600); err != nil {
		t.Fatalf("update the golden roles: %v", err)
	}
}
