package monitoring

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/controlplane/process"
	"github.com/connpool/connpool/test/dockerd"
)

const (
	checkout = "../.."
	// metricsName is the name by which scrapers verify the operator.
	metricsName = "connpool-metrics." + controlplane.APINamespace + ".svc"
)

// connectionLimit is the operator's bound for each namespace.
const connectionLimit = 16

// built is the operator's program, made once, in a folder that TestMain removes.
var built struct {
	once    sync.Once
	dir     string
	program string
	err     error
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // of this process
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

func manager(t *testing.T) string {
	t.Helper()
	built.once.Do(build)
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.program
}

func build() {
	if built.dir, built.err = os.MkdirTemp("", "connpool-monitoring-"); built.err != nil {
		return
	}
	built.program = filepath.Join(built.dir, "manager")
	compile := exec.Command("go", "build", "-o", built.program, "./cmd/manager")
	compile.Dir = checkout
	if output, err := compile.CombinedOutput(); err != nil {
		built.err = fmt.Errorf("go build ./cmd/manager: %w\n%s", err, output)
	}
}

// world is a real control plane, a real operator and one real Prometheus or more.
type world struct {
	plane    *controlplane.ControlPlane
	client   client.Client
	commands *goclient.Client
	operator *process.Process
	// log reads what the operator logs, as the container runtime does.
	log *process.Process
	dir string
	// live and metrics are addresses of the operator, token is what scrapers show.
	live, metrics, token string
	authority            *dockerd.Authority
}

// newWorld starts a control plane and an operator, and returns when it serves.
func newWorld(t *testing.T) *world {
	t.Helper()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	w := &world{plane: plane, dir: t.TempDir(), live: freeAddress(t), metrics: freeAddress(t)}
	if w.authority, err = dockerd.NewAuthority("connpool test"); err != nil {
		t.Fatal(err)
	}
	w.certificate(t, 365*24*time.Hour)
	scheme := runtime.NewScheme()
	err = errors.Join(
		clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme),
		plane.InstallCRDs(t.Context(), filepath.Join(checkout, "config", "crd", "bases")),
		plane.RegisterAPI(t.Context(), live.GroupName, live.GroupVersion.Version, portOf(w.live)),
	)
	if err != nil {
		t.Fatal(err)
	}
	if w.client, err = client.New(plane.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	if w.commands, err = goclient.New(plane.Config); err != nil {
		t.Fatal(err)
	}
	w.trust(t)
	w.token = w.scraper(t)
	kubeconfig, err := plane.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.path("kubeconfig"), kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// start starts the operator, also after an earlier one has died, and what reads its log.
func (w *world) start(t *testing.T) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.log, err = process.Start(process.Command{Name: "log", Path: "cat", Args: []string{pipe}, Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	arguments := append([]string{"-c", `pipe=$0 && exec "$@" 2>"$pipe"`, pipe, manager(t)}, w.flags()...)
	if w.operator, err = process.Start(process.Command{Name: "manager", Path: "/bin/sh", Dir: w.dir, Args: arguments}); err != nil {
		t.Fatal(err)
	}
	operator, log := w.operator, w.log
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the operator's log:\n%s", log.LastLines(20))
		}
		operator.Stop(0)
		log.Stop(0)
	})
}

func (w *world) flags() []string {
	return []string{
		"--kubeconfig=" + w.path("kubeconfig"), "--allow-cidrs=127.0.0.0/8", "--health-probe-bind-address=0", "--drain-timeout=1s",
		"--tls-cert-file=" + w.path("tls.crt"), "--tls-private-key-file=" + w.path("tls.key"),
		"--metrics-bind-address=" + w.metrics, "--live-bind-address=" + w.live, "--live-namespace=" + controlplane.APINamespace,
		"--leader-elect", "--leader-elect-namespace=" + controlplane.APINamespace,
		"--max-connections-per-namespace=" + strconv.Itoa(connectionLimit), "--audit-commands",
	}
}

// certificate gives the operator a certificate that expires after a time.
func (w *world) certificate(t *testing.T, expires time.Duration) {
	t.Helper()
	cert, key, err := w.authority.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: controlplane.APIService}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{controlplane.APIService + "." + controlplane.APINamespace + ".svc", metricsName}, NotAfter: time.Now().Add(expires),
	})
	err = errors.Join(err, os.WriteFile(w.path("tls.key"), key, 0o600), os.WriteFile(w.path("tls.crt"), cert, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// trust has kube-apiserver trust the authority of the operator's certificate.
func (w *world) trust(t *testing.T) {
	t.Helper()
	service := &unstructured.Unstructured{}
	service.SetAPIVersion("apiregistration.k8s.io/v1")
	service.SetKind("APIService")
	service.SetName(live.GroupVersion.Version + "." + live.GroupName)
	w.patch(t, service, fmt.Sprintf(`{"spec":{"caBundle":%q}}`, base64.StdEncoding.EncodeToString(w.authority.Certificate)))
}

// scraper returns the token of an account that has the project's role for scrapers.
func (w *world) scraper(t *testing.T) string {
	t.Helper()
	config, err := w.plane.ServiceAccount(t.Context(), controlplane.APINamespace, "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(checkout, "config", "rbac", "metrics_reader_role.yaml"))), role); err != nil {
		t.Fatal(err)
	}
	w.create(t, role, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: controlplane.APINamespace, Name: "prometheus"}},
	})
	return config.BearerToken
}

func (w *world) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := w.client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

// patch merges JSON into an object.
func (w *world) patch(t *testing.T, object client.Object, json string) {
	t.Helper()
	if err := w.client.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(json))); err != nil {
		t.Fatalf("patch %s: %v", object.GetName(), err)
	}
}

// namespace makes a namespace.
func (w *world) namespace(t *testing.T, name string) {
	t.Helper()
	w.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// ready waits until the pool of a namespace serves through so many targets.
func (w *world) ready(t *testing.T, namespace string, targets int) {
	t.Helper()
	pool := thePool(namespace)
	eventually(t, 45*time.Second, "the pool of "+namespace+" serves", func() (bool, string) {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(pool), pool)
		ready := pool.Status.Targets.Ready
		return err == nil && ready != nil && int(*ready) == targets, fmt.Sprint(pool.Status.Conditions, err)
	})
}

// eventually waits until fact returns true. The other result says what it has seen.
func eventually(t *testing.T, bound time.Duration, what string, fact func() (bool, string)) {
	t.Helper()
	var seen string
	err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, bound, true, func(context.Context) (ok bool, err error) {
		ok, seen = fact()
		return ok, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s; last seen: %s", what, bound, seen)
	}
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

func portOf(address string) int32 {
	_, text, _ := net.SplitHostPort(address)
	number, _ := strconv.ParseInt(text, 10, 32)
	return int32(number)
}
