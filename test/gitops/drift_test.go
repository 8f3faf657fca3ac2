package gitops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/gitops"
)

// applier applies manifests in one of the ways of GitOps controllers and users.
type applier struct {
	name string
	// apply applies a file of manifests, and differences says what an apply would change
	// now; it is empty if nothing.
	apply       func(*testing.T, *cluster, source)
	differences func(*testing.T, *cluster, source) string
	// managers are those under whose names the fields of the manifests are stored.
	managers []string
}

func appliers() []applier {
	return []applier{
		byKubectl("kubectl apply", "kubectl-client-side-apply"),
		byKubectl("Argo CD's server-side apply", "argocd-controller", "--server-side", "--field-manager=argocd-controller"),
		byKubectl("Flux's server-side apply", "kustomize-controller", "--server-side", "--field-manager=kustomize-controller"),
		{"a three-way merge, as helm makes it", createAll, threeWay, []string{fieldOwner}},
	}
}

func byKubectl(name, manager string, flags ...string) applier {
	return applier{
		name: name, managers: []string{manager},
		apply: func(t *testing.T, c *cluster, s source) {
			t.Helper()
			if output, err := c.kubectl(t.Context(), append([]string{"apply", "-f", s.file}, flags...)...); err != nil {
				t.Fatalf("kubectl apply: %v\n%s", err, output)
			}
		},
		differences: func(t *testing.T, c *cluster, s source) string {
			t.Helper()
			output, err := c.kubectl(t.Context(), append([]string{"diff", "-f", s.file}, flags...)...)
			var failed *exec.ExitError
			if errors.As(err, &failed) && failed.ExitCode() == 1 {
				return output
			}
			if err != nil {
				t.Fatalf("kubectl diff: %v\n%s", err, output)
			}
			return ""
		},
	}
}

const fieldOwner = "creator"

func createAll(t *testing.T, c *cluster, s source) {
	t.Helper()
	for _, object := range s.objects {
		err := c.admin.Create(t.Context(), object.DeepCopy(), client.FieldOwner(fieldOwner))
		if client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
	}
}

// threeWay returns the patches that change the stored objects into those of the manifests.
func threeWay(t *testing.T, c *cluster, s source) string {
	t.Helper()
	var differences strings.Builder
	for _, object := range s.objects {
		inGit, inCluster := encoded(t, object), encoded(t, c.stored(t, object))
		patch, err := patchOf(object, inGit, inCluster)
		if err != nil {
			t.Fatal(err)
		}
		if patch != "" {
			fmt.Fprintf(&differences, "%s: %s\n", keyOf(object), patch)
		}
	}
	return differences.String()
}

// patchOf returns a strategic merge for the kinds that client-go knows, and a JSON merge for
// others; an empty text if it changes nothing.
func patchOf(object *unstructured.Unstructured, inGit, inCluster []byte) (string, error) {
	known, err := scheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(inGit, inGit, inCluster)
		if string(patch) == "{}" {
			return "", err
		}
		return string(patch), err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(known)
	if err != nil {
		return "", err
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(inGit, inGit, inCluster, meta, true)
	if err != nil {
		return "", err
	}
	// Some patches repeat what is there.
	patched, err := strategicpatch.StrategicMergePatch(inCluster, patch, known)
	if err != nil || bytes.Equal(patched, inCluster) {
		return "", err
	}
	return string(patch), nil
}

func encoded(t *testing.T, object *unstructured.Unstructured) []byte {
	t.Helper()
	content := object.DeepCopy()
	// The API server turns stringData into data, which no merge knows.
	if text, found, _ := unstructured.NestedStringMap(content.Object, "stringData"); found {
		unstructured.RemoveNestedField(content.Object, "stringData")
		for key, value := range text {
			if err := unstructured.SetNestedField(content.Object, base64Of(value), "data", key); err != nil {
				t.Fatal(err)
			}
		}
	}
	bytes, err := json.Marshal(content.Object)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestNothingFightsWithGitBesideARunningOperator applies all that users have in Git, lets
// the operator see it, and looks for what an apply would change then.
func TestNothingFightsWithGitBesideARunningOperator(t *testing.T) {
	for _, a := range appliers() {
		t.Run(a.name, func(t *testing.T) {
			c := startCluster(t)
			operatorItself, uses := c.source(t, "default", rendered(t, "../../config/default")), c.source(t, "uses", usersObjects(t))
			a.apply(t, c, operatorItself)
			c.awaitDefinitions(t)
			c.startOperator(t, "127.0.0.1:0")
			a.apply(t, c, uses)
			c.awaitStatuses(t, uses)
			for _, s := range []source{operatorItself, uses} {
				a.check(t, c, s)
			}
		})
	}
}

// attempts is how often something is looked at that a write of the operator's status may
// disturb for a moment. What fights with Git is there each time.
const attempts = 3

func (a applier) check(t *testing.T, c *cluster, s source) {
	t.Helper()
	var differences string
	for range attempts {
		if differences = a.differences(t, c, s); differences == "" {
			break
		}
	}
	if differences != "" {
		t.Errorf("differences to what is in Git:\n%s", differences)
	}
	var changed string
	for range attempts {
		before := c.storedAll(t, s)
		a.apply(t, c, s)
		if changed = versions(before, c.storedAll(t, s)); changed == "" {
			break
		}
	}
	if changed != "" {
		t.Errorf("a second apply changes resourceVersions (-before +after):\n%s", changed)
	}
	a.checkManagers(t, c, s)
}

// versions returns how resourceVersions differ.
func versions(before, after map[string]*unstructured.Unstructured) string {
	versionsOf := func(objects map[string]*unstructured.Unstructured) map[string]string {
		found := map[string]string{}
		for key, object := range objects {
			found[key] = object.GetResourceVersion()
		}
		return found
	}
	return cmp.Diff(versionsOf(before), versionsOf(after))
}

// checkManagers checks that others than the applier have written statuses only, and what
// Argo CD is told to ignore.
func (a applier) checkManagers(t *testing.T, c *cluster, s source) {
	t.Helper()
	argo, err := gitops.LoadArgoCD("../../config/argocd")
	if err != nil {
		t.Fatal(err)
	}
	for key, object := range c.storedAll(t, s) {
		kind := object.GroupVersionKind()
		ignored, err := argo.IgnoredPointers(kind.Group + "_" + kind.Kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range object.GetManagedFields() {
			if slices.Contains(a.managers, entry.Manager) || entry.Subresource == "status" {
				continue
			}
			if fields := fieldsOf(t, entry); !apiequality.Semantic.DeepEqual(fields, ignored) {
				t.Errorf("%s of %s has written %v, of which Argo CD is told %v", entry.Manager, key, fields, ignored)
			}
		}
	}
}

// fieldsOf returns the fields of an entry as JSON pointers.
func fieldsOf(t *testing.T, entry metav1.ManagedFieldsEntry) []string {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &tree); err != nil {
		t.Fatal(err)
	}
	return pointers("", tree)
}

func pointers(path string, tree map[string]any) (all []string) {
	if len(tree) == 0 {
		return []string{path}
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		inner, _ := tree[name].(map[string]any)
		all = append(all, pointers(path+"/"+strings.TrimPrefix(name, "f:"), inner)...)
	}
	return all
}

// kubectl runs the kubectl of the control plane's release.
func (c *cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.plane.Dir)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	return output.String(), err
}
