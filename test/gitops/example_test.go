package gitops_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/gitops"
)

const (
	checkout = "../.."
	example  = checkout + "/config/samples/gitops/"
	fleet    = example + "flux/fleet.yaml"
)

// documents are those of a file of YAML.
func documents(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(content), "\n---\n")
}

// TestFluxReadsTheWorkedExample decodes Flux's objects into Flux's own types, and follows
// what they refer to.
func TestFluxReadsTheWorkedExample(t *testing.T) {
	var kustomizations []kustomizev1.Kustomization
	names := map[string]bool{}
	for _, file := range []string{fleet, example + "flux/operator/release.yaml"} {
		for _, document := range documents(t, file) {
			object, err := fluxType(document)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if k, is := object.(*kustomizev1.Kustomization); is {
				kustomizations, names[k.Name] = append(kustomizations, *k), true
			}
		}
	}
	if len(kustomizations) != 3 {
		t.Fatalf("%d Kustomizations, want 3", len(kustomizations))
	}
	for _, k := range kustomizations {
		if len(rendered(t, filepath.Join(checkout, k.Spec.Path))) == 0 {
			t.Errorf("%s of %s is empty", k.Spec.Path, k.Name)
		}
		for _, other := range k.Spec.DependsOn {
			if !names[other.Name] {
				t.Errorf("%s depends on %s, which is not there", k.Name, other.Name)
			}
		}
		if !k.Spec.Wait && len(k.Spec.HealthChecks) == 0 {
			t.Errorf("%s is ready before what it applies", k.Name)
		}
	}
}

// fluxType returns an empty object of the document's kind.
func fluxType(document string) (any, error) {
	var named struct{ Kind string }
	if err := yaml.Unmarshal([]byte(document), &named); err != nil {
		return nil, err
	}
	switch named.Kind {
	case "GitRepository":
		return &sourcev1.GitRepository{}, nil
	case "Kustomization":
		return &kustomizev1.Kustomization{}, nil
	case "HelmRelease":
		return &helmv2.HelmRelease{}, nil
	case "Namespace":
		return &corev1.Namespace{}, nil
	}
	return nil, fmt.Errorf("no type for a %s", named.Kind)
}

func TestArgoCDsApplicationsNameFoldersThatAreThere(t *testing.T) {
	var folders []string
	for _, document := range documents(t, example+"argocd/fleet.yaml") {
		var application struct {
			Kind string
			Spec struct{ Source struct{ Path string } }
		}
		if err := yaml.Unmarshal([]byte(document), &application); err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(checkout, application.Spec.Source.Path)
		if info, err := os.Stat(folder); application.Kind != "Application" || err != nil || !info.IsDir() {
			t.Errorf("%s names %q: %v", application.Kind, application.Spec.Source.Path, err)
		}
		folders = append(folders, application.Spec.Source.Path)
	}
	if want := []string{"charts/connpool", "config/samples/gitops/web"}; !slices.Equal(folders, want) {
		t.Errorf("%v, want %v", folders, want)
	}
}

// TestTheWorkedExampleRunsItsCommandOnEveryHost applies the example in the order of Flux,
// with a real host in each place, and runs what the Job runs with what the Job has.
func TestTheWorkedExampleRunsItsCommandOnEveryHost(t *testing.T) {
	c := startCluster(t)
	address := freeAddress(t)
	apply := byKubectl("Flux", "kustomize-controller", "--server-side", "--field-manager=kustomize-controller").apply
	operator := c.source(t, "default", reachable(t, rendered(t, "../../config/default"), address))
	apply(t, c, operator)
	c.awaitDefinitions(t)
	c.startOperator(t, address)
	await(t, "Flux finds that the live API is served", func() string { return c.unserved(t, operator) })

	hosts := c.source(t, "hosts", c.withRealHosts(t, rendered(t, example+"web/hosts")))
	apply(t, c, hosts)
	await(t, "Flux and Argo CD find all healthy", func() string { return c.unhealthy(t, hosts) })

	job := jobOf(t)
	kubeconfig := c.kubeconfigOf(t, job.Namespace, job.Spec.Template.Spec.ServiceAccountName)
	command := job.Spec.Template.Spec.Containers[0].Command
	if command[0] != "/kubectl-connpool" {
		t.Fatalf("the Job runs %s, want the plugin of the image", command[0])
	}
	output, err := asJob(t.Context(), kubeconfig, job.Namespace, command[1:]...)
	if err != nil {
		t.Errorf("the Job fails: %v\n%s", err, output)
	}
	for _, host := range []string{"web-1", "web-2"} {
		if !strings.Contains(output, host) {
			t.Errorf("the command did not run on %s:\n%s", host, output)
		}
	}
	refused, err := asJob(t.Context(), kubeconfig, job.Namespace, "exec", "other", "--", "true")
	if err == nil || !strings.Contains(refused, "forbidden") {
		t.Errorf("the Job may use another pool: %v, %s", err, refused)
	}
}

// asJob runs the plugin as in the Job's container: with the account's token, and without
// a home directory.
func asJob(ctx context.Context, kubeconfig, namespace string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, plugin, append([]string{"--namespace=" + namespace}, args...)...)
	cmd.Env = []string{"KUBECONFIG=" + kubeconfig}
	cmd.Dir = "/"
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func jobOf(t *testing.T) batchv1.Job {
	t.Helper()
	var job batchv1.Job
	for _, object := range rendered(t, example+"web/after-sync") {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &job, true); err != nil {
			t.Fatal(err)
		}
	}
	return job
}

// unserved returns why Flux waits for the APIService.
func (c *cluster) unserved(t *testing.T, s source) string {
	t.Helper()
	flux, err := gitops.LoadFlux(fleet)
	if err != nil {
		t.Fatal(err)
	}
	for key, object := range c.storedAll(t, s) {
		if object.GetKind() != "APIService" {
			continue
		}
		status, err := flux.Status(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		if status != "Current" {
			return fmt.Sprintf("%s is %s: %v", key, status, object.Object["status"])
		}
		return ""
	}
	return "there is no APIService"
}

// unhealthy returns what Flux and Argo CD wait for.
func (c *cluster) unhealthy(t *testing.T, s source) string {
	t.Helper()
	argo, argoErr := gitops.LoadArgoCD("../../config/argocd")
	flux, fluxErr := gitops.LoadFlux(fleet)
	if argoErr != nil || fluxErr != nil {
		t.Fatal(argoErr, fluxErr)
	}
	for key, object := range c.storedAll(t, s) {
		plain, err := gitops.FluxStatus(object)
		if err != nil {
			t.Fatal(err)
		}
		if plain != "Current" {
			return fmt.Sprintf("%s is %s", key, plain)
		}
		if object.GroupVersionKind().Group != v1alpha1.GroupName {
			continue
		}
		byExpressions, fluxErr := flux.Status(t.Context(), object)
		shown, argoErr := argo.Health(object)
		if fluxErr != nil || argoErr != nil {
			t.Fatal(fluxErr, argoErr)
		}
		if byExpressions != "Current" || shown.Status != "Healthy" {
			return fmt.Sprintf("%s is %s and %v", key, byExpressions, shown)
		}
	}
	return ""
}

// withRealHosts replaces the hosts of the example by servers on this machine, and adds
// their Secret, which is not in Git.
func (c *cluster) withRealHosts(t *testing.T, objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	t.Helper()
	server := startSSHD(t)
	for _, object := range objects {
		if object.GetKind() != "ConnectionTarget" {
			continue
		}
		spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(sshTarget(t, server, "web-ssh"))
		if err != nil {
			t.Fatal(err)
		}
		object.Object["spec"] = map[string]any{"ssh": spec}
	}
	secret := credentials(t, "web-ssh", server)
	secret.SetNamespace("web")
	return append(objects, secret)
}

// reachable lets kube-apiserver find the live API at an address of this machine: no
// kube-proxy routes addresses of Services here, but it dials an external name.
func reachable(t *testing.T, objects []*unstructured.Unstructured, address string) []*unstructured.Unstructured {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var number int64
	if _, err := fmt.Sscan(port, &number); err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		switch object.GetKind() + " " + object.GetName() {
		case "Service connpool-live":
			object.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		case "APIService v1alpha1.live.connpool.dev":
			if err := unstructured.SetNestedField(object.Object, number, "spec", "service", "port"); err != nil {
				t.Fatal(err)
			}
		}
	}
	return objects
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
