package chart_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const patience = time.Minute

// makeNamespace makes a namespace in which only restricted pods may run.
func makeNamespace(t *testing.T, name string) *corev1.Namespace {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := cluster.admin.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return namespace
}

// createCustom creates a custom object as soon as the server serves its kind, which takes
// it a moment after the CRD has come, and returns its answer.
func createCustom(t *testing.T, object client.Object) error {
	t.Helper()
	var err error
	served := func(ctx context.Context) (bool, error) {
		err = cluster.admin.Create(ctx, object)
		return !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err), nil
	}
	if late := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, served); late != nil {
		t.Fatalf("the kind is not served: %v", err)
	}
	return err
}

func mustHelm(t *testing.T, arguments ...string) {
	t.Helper()
	arguments = append(arguments, "--kubeconfig="+cluster.kubeconfig, "--namespace="+space)
	if _, err := helm(t.Context(), t, arguments...); err != nil {
		t.Fatal(err)
	}
}

// exists reports whether the cluster has an object.
func exists(t *testing.T, object client.Object) bool {
	t.Helper()
	err := cluster.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object)
	if err != nil && !apierrors.IsNotFound(err) && !strings.Contains(err.Error(), "no matches for kind") {
		t.Fatal(err)
	}
	return err == nil
}

// awaitAbsence returns when the object is gone.
func awaitAbsence(t *testing.T, object client.Object) {
	t.Helper()
	gone := func(context.Context) (bool, error) { return !exists(t, object), nil }
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, gone); err != nil {
		t.Fatalf("%s is still there after %s: %v", object.GetName(), patience, object)
	}
}

func named(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(apiVersion)
	object.SetKind(kind)
	object.SetNamespace(namespace)
	object.SetName(name)
	return object
}

func TestUninstallKeepsThePoolsAndLetsNamespacesGo(t *testing.T) {
	makeNamespace(t, space)
	mustHelm(t, "install", release, chartFolder)
	pool := named("connpool.dev/v1alpha1", "ConnectionPool", "default", "kept")
	pool.Object["spec"] = map[string]any{"targetRef": map[string]any{"name": "absent"}}
	if err := createCustom(t, pool); err != nil {
		t.Fatal(err)
	}

	mustHelm(t, "uninstall", release)
	other := makeNamespace(t, "unrelated")
	if err := cluster.admin.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	awaitAbsence(t, other)
	if !exists(t, pool) {
		t.Error("the pool is gone")
	}

	// The CRDs that were kept become part of the new release.
	mustHelm(t, "install", release, chartFolder)
	mustHelm(t, "upgrade", release, chartFolder, "--set=crds.keep=false")
	if !exists(t, pool) {
		t.Error("the pool is gone after the upgrade")
	}
	mustHelm(t, "uninstall", release)
	awaitAbsence(t, named("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "connectionpools.connpool.dev"))
	awaitAbsence(t, named("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "connectiontargets.connpool.dev"))
}

func TestAnUpgradeBringsTheNewFieldsOfTheCRDs(t *testing.T) {
	makeNamespace(t, space)
	older := filepath.Join(t.TempDir(), "connpool")
	if err := os.CopyFS(older, os.DirFS(chartFolder)); err != nil {
		t.Fatal(err)
	}
	removeHealthField(t, filepath.Join(older, "files", "crds", "connpool.dev_connectionpools.yaml"))
	mustHelm(t, "install", release, older, "--set=crds.keep=false")
	pool := named("connpool.dev/v1alpha1", "ConnectionPool", "default", "upgraded")
	pool.Object["spec"] = map[string]any{"targetRef": map[string]any{"name": "absent"}, "health": map[string]any{"periodSeconds": int64(7)}}
	if err := createCustom(t, pool.DeepCopy()); err == nil || !strings.Contains(err.Error(), `unknown field "spec.health"`) {
		t.Fatalf("a pool with a field of the next version: %v", err)
	}
	unstructured.RemoveNestedField(pool.Object, "spec", "health")
	if err := createCustom(t, pool); err != nil {
		t.Fatal(err)
	}
	before := pool.GetUID()

	mustHelm(t, "upgrade", release, chartFolder, "--reuse-values")
	set := func(context.Context) (bool, error) { // a server takes a moment to serve a new schema
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"health":{"periodSeconds":7}}}`))
		return cluster.admin.Patch(t.Context(), pool, patch) == nil, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, set); err != nil {
		t.Error("the new field is refused")
	}
	if pool.GetUID() != before {
		t.Error("the pool is another one")
	}
	mustHelm(t, "uninstall", release)
	awaitAbsence(t, named("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "connectionpools.connpool.dev"))
}

// removeHealthField makes a CRD as an earlier version had it.
func removeHealthField(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	delete(crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties, "health")
	if text, err = yaml.Marshal(crd); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheServerAcceptsEveryObjectStrictly(t *testing.T) {
	makeNamespace(t, space)
	makeNamespace(t, "team-a")
	makeNamespace(t, "team-b")
	tests := map[string]objects{
		"the kustomization": kustomize(t, "../../config/default"),
		"the chart":         render(t),
		"namespaces":        render(t, "--set=watchNamespaces={team-a,team-b}"),
		"other settings":    render(t, "--set=dashboards.enabled=true,auditCommands=true,drainTimeout=1h"),
	}
	for name, all := range tests {
		t.Run(name, func(t *testing.T) {
			admitAll(t, all)
			admitPod(t, all[deploymentKey])
		})
	}
}

// admitPod asks the server whether a pod of the Deployment may run in the namespace.
func admitPod(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	template, _, err := unstructured.NestedMap(deployment.Object, "spec", "template")
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, pod); err != nil {
		t.Fatal(err)
	}
	pod.Name, pod.Namespace = "manager", space
	open := pod.DeepCopy()
	open.Spec.SecurityContext = nil
	if err := cluster.admin.Create(t.Context(), open, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("a pod that may run as root: %v, want it refused", err)
	}
	if err := cluster.admin.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("the pod: %v", err)
	}
}
