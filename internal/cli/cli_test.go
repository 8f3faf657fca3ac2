package cli

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/driver"
)

// asPlugin makes the test binary the plugin itself.
const asPlugin = "CONNPOOL_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Setenv("CONNPOOL_DIRECT", "never") != nil { // the cache of the user who runs the tests is not theirs
		os.Exit(1)
	}
	if os.Getenv(asPlugin) != "" {
		os.Exit(Main(os.Args, clitest.Version, genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
	}
	goleak.VerifyTestMain(m)
}

// shop is a cluster with pools, and the whole plugin.
func shop(t *testing.T) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t)
	f.Root = func(f *plugin.Factory) *cobra.Command { return newRoot(f, "") }
	return f
}

func TestTheMissingRuleIsPrinted(t *testing.T) {
	f := shop(t)
	f.Denied["create live.connpool.dev/connectionpools/drain"] = true
	clitest.WantStderr(t, f.Run("drain", "web"), 1, `cannot create resource "connectionpools/drain"`, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: connpool-connectionpools-drain-web
  namespace: shop
rules:
- apiGroups: ["live.connpool.dev"]
  resources: ["connectionpools/drain"]
  resourceNames: ["web"]
  verbs: [create]

and then: kubectl create rolebinding connpool-connectionpools-drain-web --namespace shop --role connpool-connectionpools-drain-web --user alice
`)
	f.Denied["list connpool.dev/connectionpools"] = true
	clitest.WantStderr(t, f.Run("status", "-A"), 1, "kind: ClusterRole", "verbs: [get, list]", "clusterrolebinding")
}

func TestNamesThatDoNotExist(t *testing.T) {
	f := shop(t)
	clitest.WantStderr(t, f.Run("status", "wep"), 1, "Did you mean web?")
	clitest.WantStderr(t, f.Run("status", "something"), 1, "There are db and web.")
	clitest.WantStderr(t, f.Run("status", "web", "-n", "empty"), 1, "Namespace empty has no pools", "status -A")
	clitest.WantStderr(t, f.Run("statsu"), 1, "status")
}

func TestNamesAreTakenAsTheyArePrinted(t *testing.T) {
	f := shop(t)
	const name = "connectionpool.connpool.dev/web"
	if printed := f.Run("status", "-o", "name").Stdout; !strings.Contains(printed, name+"\n") {
		t.Errorf("printed %q", printed)
	}
	f.Checks["web-1"] = livev1alpha1.CheckStatus{Ready: true}
	f.Remote = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
		return clitest.Exits(0, "")
	}
	for _, words := range [][]string{
		{"status", name},
		{"drain", name},
		{"connections", name},
		{"top", "--once", name},
		{"exec", name + "/web-1", "--", "true"},
		{"check", "connectiontarget.connpool.dev/web-1"},
	} {
		if got := f.Run(words...); got.Code != 0 {
			t.Errorf("%q: code %d: %s", words, got.Code, got.Stderr)
		}
	}
}

func TestProblemsOfTheClusterAreExplained(t *testing.T) {
	tests := map[string]struct {
		answer http.HandlerFunc
		words  []string
	}{
		"no server serves the API": {
			http.NotFound, []string{"kubectl connpool doctor"},
		},
		"the operator does not answer": {
			func(out http.ResponseWriter, _ *http.Request) {
				http.Error(out, "service unavailable", http.StatusServiceUnavailable)
			},
			[]string{"service unavailable", "kubectl connpool doctor"},
		},
		"the cluster does not know the user": {
			func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusUnauthorized) },
			[]string{"renew the credentials"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := shop(t)
			f.Answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = test.answer
			clitest.WantStderr(t, f.Run("connections"), 1, test.words...)
		})
	}
}

func TestWithoutACluster(t *testing.T) {
	f := shop(t)
	clitest.WantStderr(t, f.Run("status", "--context", "none"), 1, `the kubeconfig has no context "none"`, "kubectl config get-contexts")
	clitest.WantStderr(t, f.Run("status", "--kubeconfig", "/none"), 1, "no cluster to talk to", "--kubeconfig or KUBECONFIG")
	f.URL = "http://127.0.0.1:1"
	clitest.WantStderr(t, f.Run("status"), 1, "The cluster does not answer")
	clitest.WantStderr(t, f.Run("exec", "web/web-1", "--", "true"), 254, "was not started", "The cluster does not answer")
	clitest.WantStderr(t, f.Run("run", "web/web-1", "--", "true"), 1, "NotStarted", "The cluster does not answer")
}

func TestAServerThatIsNotTheCluster(t *testing.T) {
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.StartTLS()
	t.Cleanup(other.Close)
	f := shop(t)
	f.URL = other.URL
	for _, words := range [][]string{{"status"}, {"exec", "web/web-1", "--", "true"}} {
		got := f.Run(words...)
		if got.Code == 0 || !strings.Contains(got.Stderr, "cannot prove that it is the cluster") {
			t.Errorf("%v: exit code %d:\n%s", words, got.Code, got.Stderr)
		}
	}
}

func TestUsagesShowTheNameThatWasTyped(t *testing.T) {
	for path, name := range map[string]string{
		"/usr/bin/kubectl-connpool": "kubectl connpool", "connpool": "connpool", "kubectl-connpool.exe": "kubectl connpool",
	} {
		if got := calledAs(path); got != name {
			t.Errorf("%s is called %q, want %q", path, got, name)
		}
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	f := shop(t)
	for _, command := range newRoot(plugin.New("connpool", "", genericiooptions.NewTestIOStreamsDiscard()), "").Commands() {
		if command.Hidden {
			continue
		}
		got := f.Run(command.Name(), "--help")
		if got.Code != 0 || !strings.Contains(got.Stdout, "Examples:\n") || strings.Contains(got.Stdout, "--kubeconfig string") {
			t.Errorf("%s: %d\n%s", command.Name(), got.Code, got.Stdout)
		}
	}
}

func TestVersions(t *testing.T) {
	f := shop(t)
	if got := f.Run("version"); !strings.HasPrefix(got.Stdout, "Client: v1.2.3 (") || !strings.HasSuffix(got.Stdout, "Server: v1.2.4\n") {
		t.Errorf("got %+v", got)
	}
	before := len(f.Requests())
	if got := f.Run("version", "--client", "-o", "json"); !strings.Contains(got.Stdout, `"client": "v1.2.3"`) || len(f.Requests()) > before {
		t.Errorf("got %+v after %v", got, f.Requests())
	}
	f.Answers["/openapi/v3/apis/live.connpool.dev/v1alpha1"] = http.NotFound
	clitest.WantStderr(t, f.Run("version"), 0, "Server: does not answer")
}

func TestCompletion(t *testing.T) {
	tests := map[string]struct {
		words []string
		want  string
	}{
		"pools":                {[]string{"status", ""}, "db\nweb\n"},
		"pools that fit":       {[]string{"exec", "w"}, "web\n"},
		"targets of a pool":    {[]string{"exec", "web/"}, "web/web-1\nweb/web-2\n"},
		"targets for a flag":   {[]string{"exec", "web", "--target", "web-"}, "web-1\nweb-2\n"},
		"any target":           {[]string{"check", "web-1", ""}, "db-1\nweb-1\nweb-2\n"},
		"connections to drain": {[]string{"drain", "connection/w"}, "connection/web-1-7\n"},
		"namespaces":           {[]string{"status", "-n", "k"}, "kube-system\n"},
		"contexts":             {[]string{"status", "--context", ""}, "it\n"},
		"states":               {[]string{"connections", "--state", ""}, "Idle\nInUse\nDraining\n"},
		"forms of output":      {[]string{"doctor", "-o", ""}, "json\nyaml\n"},
		"nothing after a pool": {[]string{"status", "web", ""}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := shop(t).Run(append([]string{"__completeNoDesc"}, test.words...)...)
			words, _, _ := strings.Cut(got.Stdout, ":4\n")
			if words != test.want {
				t.Errorf("completed %q, want %q", words, test.want)
			}
		})
	}
}

func TestCompletionOffersContainersAndPodsNotFiles(t *testing.T) {
	f := shop(t)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ci"}}
	f.Pools = append(f.Pools, v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Name: "ci", Namespace: "shop"}, Spec: v1alpha1.ConnectionPoolSpec{TargetSelector: selector},
	})
	engine, prod := clitest.Target("docker-1", "ci"), clitest.Target("prod", "ci")
	engine.Spec.Docker, prod.Spec.Kubernetes = new(v1alpha1.DockerTarget), new(v1alpha1.KubernetesTarget)
	f.Targets = append(f.Targets, engine, prod)
	f.Places = map[string]livev1alpha1.ListingStatus{
		"docker-1": {Containers: []livev1alpha1.ListedContainer{{Name: "db"}, {Name: "web"}}},
		"prod":     {Pods: []livev1alpha1.ListedPod{{Name: "web-0", Namespace: "shop", Containers: []string{"app", "mesh"}}}},
	}
	f.Denied["list connpool.dev/connectiontargets"] = true
	for name, test := range map[string]struct {
		words []string
		want  string
	}{
		"a target":                         {[]string{"exec", "ci/"}, "ci/docker-1\nci/prod\n"},
		"a container to exec":              {[]string{"exec", "ci/docker-1", "--container", ""}, "db\nweb\n"},
		"a container of any target":        {[]string{"exec", "ci", "-c", "w"}, "web\n"},
		"a container by the target's flag": {[]string{"exec", "ci", "--target", "docker-1", "-c", ""}, "db\nweb\n"},
		"a pod":                            {[]string{"shell", "ci/prod", "--pod", ""}, "web-0\n"},
		"a container of a pod":             {[]string{"exec", "ci/prod", "--pod", "web-0", "-c", ""}, "app\nmesh\n"},
		"a container of an unknown pod":    {[]string{"exec", "ci/prod", "--pod", "web-9", "-c", ""}, ""},
		"a namespace":                      {[]string{"exec", "ci/prod", "--pod-namespace", ""}, "shop\n"},
		"a container for run":              {[]string{"run", "ci", "--all", "-c", ""}, "db\nweb\n"},
		"a container for a session":        {[]string{"session", "create", "ci/docker-1", "-c", "d"}, "db\n"},
		"a pod to forward to":              {[]string{"port-forward", "ci/prod", "--pod", ""}, "web-0\n"},
		"a pod without a pool":             {[]string{"exec", "--pod", ""}, ""},
		"a container of an unknown target": {[]string{"exec", "ci/none", "-c", ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.Run(append([]string{"__completeNoDesc"}, test.words...)...)
			if words, _, files := strings.Cut(got.Stdout, ":4\n"); words != test.want || !files {
				t.Errorf("completed %q, want %q", got.Stdout, test.want)
			}
		})
	}
}

func TestCompletionOffersNothingWithoutACluster(t *testing.T) {
	f := shop(t)
	f.URL = "http://127.0.0.1:1"
	if got := f.Run("__completeNoDesc", "status", ""); got.Code != 0 || got.Stdout != ":4\n" {
		t.Errorf("got %+v", got)
	}
}

func TestCompletionScriptsAreForTheBinary(t *testing.T) {
	f := shop(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := f.Run("completion", shell); got.Code != 0 || !strings.Contains(got.Stdout, "__complete") || strings.Contains(got.Stdout, "kubectl connpool") || len(got.Stdout) < 1000 {
			t.Errorf("%s: %d, %.200s", shell, got.Code, got.Stdout)
		}
	}
	clitest.WantStderr(t, f.Run("completion", "tcsh"), 1, "tcsh")
}
