package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/docker"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/logs"
	"github.com/connpool/connpool/internal/operator"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/openssh"
	"github.com/connpool/connpool/test/otlp"
)

// canary is part of every kind of credential that a Secret can hold, good and bad
// ones (TestNoCredentialComesOut, TestASecretThatCannotBeUsedSaysWhy). It must not be
// in anything that comes out of the operator.
const canary = "canary-7f3a91"

// env is one real API server and one operator, shared by all tests: they use
// namespaces of their own.
var env struct {
	client client.Client
	pools  *poolset.Set
	output *recorder
	// metrics is the address of the authenticated endpoint.
	metrics string
	// live is the address of the live API, for requests past kube-apiserver.
	live string
	// traces is the collector to which the operator sends its own.
	traces *otlp.Collector
	plane  *controlplane.ControlPlane
	config *rest.Config
	spaces atomic.Int32
}

// playOperator, when set, makes this test binary the operator itself, for tests
// that need one in a process of its own.
const playOperator = "CONNPOOL_TEST_PLAY_OPERATOR"

func TestMain(m *testing.M) {
	if os.Getenv(playOperator) != "" {
		if err := runAsOperator(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "operator:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

// runAsOperator does what cmd/manager does, with the same flags.
func runAsOperator(arguments []string) error {
	flags := flag.NewFlagSet("operator", flag.ContinueOnError)
	var options operator.Options
	options.Register(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := options.Validate(); err != nil {
		return err
	}
	ctrl.SetLogger(zap.New())
	klog.SetLogger(ctrl.Log)
	return operator.Run(ctrl.SetupSignalHandler(), options, drivers())
}

func runTests(m *testing.M) int {
	plane, err := controlplane.Start(context.Background(), controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a control plane:", err)
		return 1
	}
	defer plane.Stop()
	if err := installAPI(context.Background(), plane); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	env.plane, env.config = plane, plane.Config
	env.traces = otlp.Start()
	defer env.traces.Close()
	if err := traceToCollector(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop, err := startOperator()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the operator:", err)
		return 1
	}
	code := m.Run()
	stop()
	return leakedSecrets(code)
}

// traceToCollector makes the operator send the traces for which a test asks.
func traceToCollector() error {
	return errors.Join(
		os.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", env.traces.URL), os.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
		os.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100"),
	)
}

// installAPI installs the custom resource definitions, and the policies that guard them.
func installAPI(ctx context.Context, plane *controlplane.ControlPlane) error {
	return errors.Join(plane.InstallCRDs(ctx, "../../config/crd/bases"), plane.InstallPolicies(ctx, "../../config/admission"))
}

// drivers are those of cmd/manager.
func drivers() connectiontarget.Drivers {
	return connectiontarget.Drivers{
		v1alpha1.TargetTypeSSH:        ssh.New(ssh.Options{}),
		v1alpha1.TargetTypeDocker:     docker.New(docker.Options{}),
		v1alpha1.TargetTypeKubernetes: kube.New(kube.Options{QPS: 50, Burst: 100}),
	}
}

// startOperator runs an operator at the highest verbosity, whose pools the tests
// can look at.
func startOperator() (stop func(), err error) {
	env.output = &recorder{}
	ctrl.SetLogger(logs.WithoutBodies(zap.New(zap.WriteTo(env.output), zap.UseDevMode(true), zap.Level(zapcore.Level(-10)))))
	klog.SetLogger(ctrl.Log)
	env.metrics, env.live = freeAddress(), freeAddress()
	_, port := split(env.live)
	if err := env.plane.RegisterAPI(context.Background(), live.GroupName, live.GroupVersion.Version, port); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	if env.client, err = client.New(env.config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	op, err := operator.New(ctx, env.config, operator.Options{
		MetricsAddress: env.metrics, ProbeAddress: "0", Replica: "replica-1",
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, DrainTimeout: 5 * time.Second,
		Live: operator.LiveOptions{Address: env.live, Namespace: controlplane.APINamespace, Service: controlplane.APIService},
	}, drivers())
	if err != nil {
		cancel()
		return nil, err
	}
	env.pools = op.Pools()
	done := make(chan error, 1)
	go func() { done <- op.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "operator:", err)
		}
	}, nil
}

// namespace makes a namespace for a test and returns its name.
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", env.spaces.Add(1))
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	return name
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := env.client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

func remove(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := env.client.Delete(t.Context(), object); err != nil && !apierrors.IsNotFound(err) {
			t.Fatalf("delete %T %s: %v", object, object.GetName(), err)
		}
	}
}

// change reads the newest version of an object, edits it and writes it.
func change[T client.Object](t *testing.T, object T, edit func(T)) {
	t.Helper()
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatalf("get %s: %v", object.GetName(), err)
	}
	before := object.DeepCopyObject().(client.Object)
	edit(object)
	if err := env.client.Patch(t.Context(), object, client.MergeFrom(before)); err != nil {
		t.Fatalf("patch %s: %v", object.GetName(), err)
	}
}

// startSSHD starts a real OpenSSH server for one test.
func startSSHD(t *testing.T, config ...string) *openssh.Server {
	t.Helper()
	server, err := openssh.Start(t.Context(), openssh.Options{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func credentials(namespace, name string, server *openssh.Server) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name,
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ssh-privatekey": server.PrivateKey},
	}
}

// target describes the server as a target whose credentials are in the named Secret.
func target(namespace, name string, server *openssh.Server, secret string) *v1alpha1.ConnectionTarget {
	host, port := split(server.Addr)
	return &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
			Host: host, Port: &port, User: server.User,
			CredentialsRef: v1alpha1.SecretRef{Name: secret},
			HostKeys:       v1alpha1.HostKeys{KnownHosts: []string{strings.TrimSpace(server.KnownHosts)}},
		}},
	}
}

func split(address string) (string, int32) {
	host, text, _ := net.SplitHostPort(address)
	port, _ := strconv.ParseInt(text, 10, 32)
	return host, int32(port)
}

// pool describes a pool of one target, with the health settings for which the bounds
// in these tests are chosen.
func pool(namespace, name, target string, edits ...func(*v1alpha1.ConnectionPoolSpec)) *v1alpha1.ConnectionPool {
	p := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ConnectionPoolSpec{
			TargetRef: &v1alpha1.TargetRef{Name: target},
			Health: v1alpha1.PoolHealth{
				KeepaliveSeconds: new(int32(5)), TimeoutSeconds: new(int32(5)), PeriodSeconds: new(int32(10)),
			},
		},
	}
	for _, edit := range edits {
		edit(&p.Spec)
	}
	return p
}

// eventually waits until fact returns true. The other result of fact says what it has
// seen, for the failure.
func eventually(t *testing.T, bound time.Duration, what string, fact func() (bool, string)) {
	t.Helper()
	var seen string
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, bound, true, func(context.Context) (ok bool, err error) {
		ok, seen = fact()
		return ok, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s; last seen: %s", what, bound, seen)
	}
}

// condition waits until a condition has the status and one of the reasons.
func condition(t *testing.T, bound time.Duration, object client.Object, kind string, status metav1.ConditionStatus, reasons ...string) metav1.Condition {
	t.Helper()
	var found metav1.Condition
	eventually(t, bound, fmt.Sprintf("%s of %s is %s for %s", kind, object.GetName(), status, reasons), func() (bool, string) {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return false, err.Error()
		}
		for _, c := range conditions(object) {
			if c.Type == kind && c.Status == status && slices.Contains(reasons, c.Reason) && c.ObservedGeneration == object.GetGeneration() {
				found = c
				return true, ""
			}
		}
		return false, fmt.Sprint(conditions(object))
	})
	return found
}

func conditions(object client.Object) []metav1.Condition {
	switch o := object.(type) {
	case *v1alpha1.ConnectionTarget:
		return o.Status.Conditions
	case *v1alpha1.ConnectionPool:
		return o.Status.Conditions
	}
	return nil
}

func isTrue(object client.Object, kind string) bool {
	return meta.IsStatusConditionTrue(conditions(object), kind)
}

// connected waits until the pool has so many warm connections to the target, as the
// engine counts them.
func connected(t *testing.T, bound time.Duration, p *v1alpha1.ConnectionPool, ct *v1alpha1.ConnectionTarget, want int) poolset.PoolObservation {
	t.Helper()
	var seen poolset.PoolObservation
	eventually(t, bound, fmt.Sprintf("%d connections of %s to %s", want, p.Name, ct.Name), func() (bool, string) {
		seen = observe(p, ct)
		return seen.Warm() == want, fmt.Sprintf("%+v", seen.Stats)
	})
	return seen
}

func observe(p *v1alpha1.ConnectionPool, ct *v1alpha1.ConnectionTarget) poolset.PoolObservation {
	observation, _ := env.pools.Observe(string(ct.UID))
	for _, o := range observation.Pools {
		if o.Pool.UID == string(p.UID) {
			return o
		}
	}
	return poolset.PoolObservation{}
}

// execute runs a command through the pool and returns its output.
func execute(t *testing.T, p *v1alpha1.ConnectionPool, ct *v1alpha1.ConnectionTarget, argv ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	request := poolset.Request{Pool: string(p.UID), Target: string(ct.UID)}
	err := executeIn(t.Context(), request, driver.Command{Argv: argv}, driver.Streams{Stdout: &out})
	return out.String(), err
}

// executeIn leases a connection and runs a command on it.
func executeIn(ctx context.Context, request poolset.Request, command driver.Command, streams driver.Streams) error {
	lease, err := env.pools.Acquire(ctx, request)
	if err != nil {
		return err
	}
	_, err = env.pools.ExecOn(ctx, lease, request, command, streams)
	return err
}

// scrape reads the metrics as the user of the configuration. It returns the HTTP
// status and the body.
func scrape(t *testing.T, config *rest.Config) (int, string) {
	t.Helper()
	trusting := rest.CopyConfig(config)
	trusting.TLSClientConfig.CAData, trusting.TLSClientConfig.CAFile = authority(t), ""
	scraper, err := rest.HTTPClientFor(trusting)
	if err != nil {
		t.Fatal(err)
	}
	defer scraper.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+env.metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := scraper.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// authority returns the authority that has issued the certificate of the live API and
// the metrics.
func authority(t *testing.T) []byte {
	t.Helper()
	var certificates corev1.Secret
	key := client.ObjectKey{Namespace: controlplane.APINamespace, Name: controlplane.APIService + "-certs"}
	if err := env.client.Get(t.Context(), key, &certificates); err != nil {
		t.Fatal(err)
	}
	return certificates.Data["ca.crt"]
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
