package gitops_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/openssh"
)

const (
	// system is where config/default installs the operator, and users where its users
	// have their objects.
	system, users = "connpool-system", "default"
	// patience bounds how long a busy machine may take for one step.
	patience = 60 * time.Second
)

// manager and plugin are the built programs of the image.
var manager, plugin string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	dir, err := os.MkdirTemp("", "connpool-gitops-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // only a temporary directory stays
	manager, plugin = filepath.Join(dir, "manager"), filepath.Join(dir, "kubectl-connpool")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/", "./cmd/manager", "./cmd/kubectl-connpool")
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// cluster is an API server, and an operator beside it that has its rights only.
type cluster struct {
	plane                *controlplane.ControlPlane
	admin                client.Client
	kubeconfig, programs string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	c := &cluster{plane: plane, kubeconfig: filepath.Join(plane.Dir, "admin.kubeconfig")}
	if c.programs, err = binaries.Ensure(t.Context(), binaries.Printer(os.Stderr)); err != nil {
		t.Fatal(err)
	}
	content, err := controlplane.Kubeconfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.kubeconfig, content)
	if c.admin, err = client.New(plane.Config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// kubeconfigOf writes the kubeconfig of an account, with nothing but its token.
func (c *cluster) kubeconfigOf(t *testing.T, namespace, name string) string {
	t.Helper()
	account, err := c.plane.ServiceAccount(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := controlplane.Kubeconfig(account)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.plane.Dir, name+".kubeconfig")
	write(t, path, content)
	return path
}

// startOperator runs the operator as the account of config/default, with the live API at
// the address.
func (c *cluster) startOperator(t *testing.T, liveAddress string) {
	t.Helper()
	kubeconfig := c.kubeconfigOf(t, system, "connpool-manager")
	operator, err := process.Start(process.Command{
		Name: "manager", Path: manager, Dir: c.plane.Dir,
		Args: []string{
			"--kubeconfig=" + kubeconfig, "--leader-elect", "--metrics-bind-address=0", "--health-probe-bind-address=0",
			"--live-bind-address=" + liveAddress, "--live-namespace=" + system, "--allow-cidrs=127.0.0.0/8",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { operator.Stop(10 * time.Second) })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the operator's log ends:\n%s", operator.LastLines(20))
		}
	})
}

// source is what is in Git.
type source struct {
	file    string
	objects []*unstructured.Unstructured
}

// source writes the objects to a file.
func (c *cluster) source(t *testing.T, name string, objects []*unstructured.Unstructured) source {
	t.Helper()
	var all []string
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	s := source{filepath.Join(c.plane.Dir, name+".yaml"), objects}
	write(t, s.file, []byte(strings.Join(all, "---\n")))
	return s
}

// rendered are the objects of a kustomization.
func rendered(t *testing.T, folder string) (objects []*unstructured.Unstructured) {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // namespaces before what is in them
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, object); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	return objects
}

// usersObjects are the samples, none of which can be connected, and a target that can,
// with a pool in which as many fields as possible are left out.
func usersObjects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	server := startSSHD(t)
	named := metav1.ObjectMeta{Name: "real"}
	objects := append(rendered(t, "../../config/samples"), credentials(t, "real", server),
		inGit(t, v1alpha1.GroupVersion.String(), "ConnectionTarget", &v1alpha1.ConnectionTarget{
			ObjectMeta: named, Spec: v1alpha1.ConnectionTargetSpec{SSH: sshTarget(t, server, "real")},
		}),
		inGit(t, v1alpha1.GroupVersion.String(), "ConnectionPool", &v1alpha1.ConnectionPool{
			ObjectMeta: named, Spec: v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: "real"}},
		}))
	for _, object := range objects {
		object.SetNamespace(users)
	}
	return append(objects, rendered(t, "../../config/samples/gitops/web")...)
}

func startSSHD(t *testing.T) *openssh.Server {
	t.Helper()
	server, err := openssh.Start(t.Context(), openssh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// credentials returns the Secret of the server's user.
func credentials(t *testing.T, name string, server *openssh.Server) *unstructured.Unstructured {
	t.Helper()
	meta := metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue}}
	return inGit(t, "v1", "Secret", &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"ssh-privatekey": server.PrivateKey}})
}

// sshTarget describes the server as the spec of a target.
func sshTarget(t *testing.T, server *openssh.Server, secret string) *v1alpha1.SSHTarget {
	t.Helper()
	host, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &v1alpha1.SSHTarget{
		Host: host, Port: new(int32(number)), User: server.User, CredentialsRef: v1alpha1.SecretRef{Name: secret},
		HostKeys: v1alpha1.HostKeys{KnownHosts: []string{strings.TrimSpace(server.KnownHosts)}},
	}
}

// inGit returns an object as people write it, without a status.
func inGit(t *testing.T, apiVersion, kind string, object any) *unstructured.Unstructured {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	delete(fields, "status")
	u := &unstructured.Unstructured{Object: fields}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	return u
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func keyOf(object *unstructured.Unstructured) string {
	return strings.Join(strings.Fields(object.GetKind()+" "+object.GetNamespace()+" "+object.GetName()), " ")
}

// stored returns the object of the manifest as the API server has it.
func (c *cluster) stored(t *testing.T, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(manifest.GroupVersionKind())
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(manifest), found); err != nil {
		t.Fatal(err)
	}
	return found
}

func (c *cluster) storedAll(t *testing.T, s source) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	for _, manifest := range s.objects {
		all[keyOf(manifest)] = c.stored(t, manifest)
	}
	return all
}

// awaitDefinitions waits until the API server serves pools and targets.
func (c *cluster) awaitDefinitions(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"ConnectionPoolList", "ConnectionTargetList"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
		await(t, kind+" is served", func() string { return text(c.admin.List(t.Context(), list)) })
	}
}

// awaitStatuses waits until the operator has seen all pools and targets, has connected
// what can be connected, and has published its authority.
func (c *cluster) awaitStatuses(t *testing.T, s source) {
	t.Helper()
	await(t, "the operator has written all that it writes", func() string {
		for key, object := range c.storedAll(t, s) {
			if object.GroupVersionKind().Group != v1alpha1.GroupName {
				continue
			}
			seen, _, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
			summary, _, _ := unstructured.NestedString(object.Object, "status", "summary")
			if seen != object.GetGeneration() || object.GetName() == "real" && summary != v1alpha1.ReasonWarm {
				return fmt.Sprintf("%s has generation %d, seen %d: %s", key, object.GetGeneration(), seen, summary)
			}
		}
		api := inGit(t, "apiregistration.k8s.io/v1", "APIService", &metav1.PartialObjectMetadata{})
		api.SetName("v1alpha1.live.connpool.dev")
		if bundle, _, _ := unstructured.NestedString(c.stored(t, api).Object, "spec", "caBundle"); bundle == "" {
			return "the APIService has no caBundle"
		}
		return ""
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// await waits until nothing is missing any more.
func await(t *testing.T, what string, missing func() string) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s: %s", what, patience, last)
	}
}
