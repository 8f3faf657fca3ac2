package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/binaries"
	"github.com/connpool/connpool/test/controlplane/process"
)

// cluster is a control plane with the operator of config/default in it: its own
// binary, its own flags, the rights of its own ServiceAccount.
type cluster struct {
	plane *controlplane.ControlPlane
	// live is the address of the operator's live API.
	live     string
	client   client.WithWatch
	scraper  *rest.RESTClient
	operator *process.Process
	// command is what started the operator.
	command process.Command
	// variables are set for the operator, as NAME=value.
	variables []string
}

// startCluster starts everything, the operator with variables beside those of this
// process; stop stops the parts that have been started.
func startCluster(ctx context.Context, say binaries.Say, variables ...string) (c *cluster, err error) {
	program, err := buildOperator(ctx)
	if err != nil {
		return nil, err
	}
	plane, err := controlplane.Start(ctx, controlplane.Options{Say: say})
	if err != nil {
		return nil, err
	}
	c = &cluster{plane: plane, variables: variables}
	if c.live, err = freeAddress(ctx); err != nil {
		c.stop()
		return nil, err
	}
	if err := c.deploy(ctx, program); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) stop() {
	if c.operator != nil {
		c.operator.Stop(0)
	}
	c.plane.Stop()
}

// buildOperator compiles the operator into bin as `make build` does.
func buildOperator(ctx context.Context) (string, error) { return buildProgram(ctx, "manager") }

// buildProgram compiles one of the programs in cmd into bin.
func buildProgram(ctx context.Context, name string) (string, error) {
	root, err := binaries.Checkout()
	if err != nil {
		return "", err
	}
	program := filepath.Join(root, "bin", name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/"+name)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	process.Tie(build)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build "+name+": %w\n%s", err, output)
	}
	return program, nil
}

func (c *cluster) deploy(ctx context.Context, program string) error {
	root, err := binaries.Checkout()
	if err != nil {
		return err
	}
	if err := c.plane.InstallCRDs(ctx, filepath.Join(root, "config", "crd", "bases")); err != nil {
		return err
	}
	if err := c.plane.InstallPolicies(ctx, filepath.Join(root, "config", "admission")); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	manifests, err := render(filepath.Join(root, "config", "default"))
	if err != nil {
		return err
	}
	if err := c.apply(ctx, manifests); err != nil {
		return err
	}
	deployment, err := deploymentOf(manifests)
	if err != nil {
		return err
	}
	account := deployment.Spec.Template.Spec.ServiceAccountName
	user := fmt.Sprintf("system:serviceaccount:%s:%s", deployment.Namespace, account)
	if err := c.countWritesOf(ctx, deployment.Namespace, account); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(c.live)
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	if err := c.plane.RegisterAPI(ctx, live.GroupName, live.GroupVersion.Version, int32(number)); err != nil {
		return err
	}
	return c.startOperator(program, user, deployment)
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (c *cluster) connect() error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	config := rest.CopyConfig(c.plane.Config)
	config.QPS = -1 // thousands of objects
	var err error
	if c.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	config.GroupVersion, config.NegotiatedSerializer = &appsv1.SchemeGroupVersion, clientgoscheme.Codecs.WithoutConversion()
	c.scraper, err = rest.UnversionedRESTClientFor(config)
	return err
}

func render(dir string) ([]*unstructured.Unstructured, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // namespaces before what is in them
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, object); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// apply creates what the operator needs to run beside the control plane instead
// of in it.
func (c *cluster) apply(ctx context.Context, manifests []*unstructured.Unstructured) error {
	for _, object := range manifests {
		if object.GetKind() != "Namespace" && object.GroupVersionKind().Group != rbacv1.GroupName {
			continue
		}
		if err := c.client.Create(ctx, object.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

func deploymentOf(manifests []*unstructured.Unstructured) (*appsv1.Deployment, error) {
	at := slices.IndexFunc(manifests, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
	if at < 0 {
		return nil, fmt.Errorf("no Deployment among %d manifests", len(manifests))
	}
	deployment := &appsv1.Deployment{}
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(manifests[at].Object, deployment)
	return deployment, err
}

// startOperator starts the binary with the flags of the Deployment; later flags
// win.
func (c *cluster) startOperator(program, user string, deployment *appsv1.Deployment) error {
	kubeconfig, err := c.kubeconfig(user)
	if err != nil {
		return err
	}
	arguments := slices.Concat(deployment.Spec.Template.Spec.Containers[0].Args, []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect-namespace=" + deployment.Namespace,
		"--allow-cidrs=127.0.0.0/8",
		"--metrics-bind-address=127.0.0.1:0",
		"--health-probe-bind-address=127.0.0.1:0",
		"--live-bind-address=" + c.live,
		"--live-namespace=" + deployment.Namespace,
		"--drain-timeout=1s",
	})
	c.command = process.Command{Name: "manager", Path: program, Args: arguments, Env: c.variables, Dir: c.plane.Dir}
	c.operator, err = process.Start(c.command)
	return err
}

// kubeconfig writes one for a user and returns its path.
func (c *cluster) kubeconfig(user string) (string, error) {
	config, err := c.plane.User(user, "system:serviceaccounts", "system:authenticated")
	if err != nil {
		return "", err
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["bench"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos["bench"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	kubeconfig.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	kubeconfig.CurrentContext = "bench"
	path := filepath.Join(c.plane.Dir, "operator.kubeconfig")
	return path, clientcmd.WriteToFile(*kubeconfig, path)
}

// The API server counts requests by flow schema, so a schema for the operator's
// writes counts them exactly, apart from those of other clients.
const (
	leaseWrites = "bench-lease-writes"
	otherWrites = "bench-other-writes"
	// reviews ask who a user is and what the user may do. They are created like
	// objects, but not stored.
	reviews = "bench-reviews"
)

func (c *cluster) countWritesOf(ctx context.Context, namespace, account string) error {
	matches := map[string]flowcontrolv1.ResourcePolicyRule{
		leaseWrites: {APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}},
		reviews:     {APIGroups: []string{"authentication.k8s.io", "authorization.k8s.io"}, Resources: []string{"*"}},
		otherWrites: {APIGroups: []string{"*"}, Resources: []string{"*"}},
	}
	for precedence, name := range []string{leaseWrites, reviews, otherWrites} {
		schema := &flowcontrolv1.FlowSchema{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: flowcontrolv1.FlowSchemaSpec{
				// That of ServiceAccounts, so that counting changes nothing else.
				PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "workload-low"},
				MatchingPrecedence:         int32(10 + precedence),
				Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
					Subjects: []flowcontrolv1.Subject{{
						Kind:           flowcontrolv1.SubjectKindServiceAccount,
						ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: account},
					}},
					ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
						Verbs:     []string{"create", "update", "patch", "delete", "deletecollection"},
						APIGroups: matches[name].APIGroups, Resources: matches[name].Resources,
						ClusterScope: true, Namespaces: []string{"*"},
					}},
				}},
			},
		}
		if err := c.client.Create(ctx, schema); err != nil {
			return fmt.Errorf("create FlowSchema %s: %w", name, err)
		}
	}
	return nil
}

// writes counts the operator's API writes by flow schema since its start.
func (c *cluster) writes(ctx context.Context) (map[string]int, error) {
	text, err := c.scraper.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("scrape the API server: %w", err)
	}
	counts := map[string]int{}
	for line := range bytes.Lines(text) {
		for _, name := range []string{leaseWrites, otherWrites} {
			if !bytes.HasPrefix(line, []byte("apiserver_flowcontrol_dispatched_requests_total{flow_schema=\""+name+"\"")) {
				continue
			}
			var n float64
			if _, err := fmt.Sscan(string(line[bytes.LastIndexByte(line, ' '):]), &n); err != nil {
				return nil, fmt.Errorf("parse %q: %w", line, err)
			}
			counts[name] += int(n)
		}
	}
	return counts, nil
}
