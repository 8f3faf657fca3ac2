package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/test/controlplane/binaries"
)

// programs is the folder of the programs with clients of other languages.
const programs = "../clients"

// pythonClient is the folder of the Python client in one file.
const pythonClient = "../../clients/python"

// worker returns the configuration of a ServiceAccount that may list connections and
// use every pool of its namespace, and nothing else.
func worker(t *testing.T, namespace string) *rest.Config {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "worker"}
	create(t,
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{live.GroupName}, Resources: []string{"connections"}, Verbs: []string{"get", "list"}},
			{
				APIGroups: []string{live.GroupName}, Verbs: []string{"create", "get"},
				Resources: []string{"connectionpools/exec", "connectionpools/portforward"},
			},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "worker"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "worker"}},
		})
	config, err := env.plane.ServiceAccount(t.Context(), namespace, "worker")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// kubeconfig writes a kubeconfig for programs that read one, and returns its path.
func kubeconfig(t *testing.T, config *rest.Config, namespace string) string {
	t.Helper()
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test", Namespace: namespace}
	file.CurrentContext = "test"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// look reads the files with which a program of ours runs, so that go test runs the test again
// when one of them has changed.
func look(t *testing.T, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file is like %s (%v)", pattern, err)
		}
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// program runs a program to its end and returns what it printed.
func program(t *testing.T, dir, name string, arguments ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func TestThePythonClientRunsCommands(t *testing.T) {
	look(t, programs+"/exec.py")
	f := warm(t, startSSHD(t))
	// Only Debian's own interpreter finds Debian's package.
	output, err := program(t, programs, "/usr/bin/python3", "exec.py", kubeconfig(t, worker(t, f.pool.Namespace), f.pool.Namespace), f.pool.Namespace, f.pool.Name)
	if err != nil || !strings.HasSuffix(output, "ok\n") {
		t.Errorf("python3-kubernetes: %v\n%s", err, output)
	}
}

func TestTheOneFilePythonClientRunsCommands(t *testing.T) {
	look(t, programs+"/pool.py", pythonClient+"/*.py")
	f := warm(t, startSSHD(t))
	folder, err := binaries.Ensure(t.Context(), binaries.Printer(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	account := worker(t, f.pool.Namespace)
	direct := directly(t, account)
	files := t.TempDir()
	for name, content := range map[string][]byte{
		"token": []byte(account.BearerToken), "namespace": []byte(f.pool.Namespace),
		"ca.crt": account.CAData, "connpool.crt": direct.CAData,
	} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH")) // for kubectl
	t.Setenv("PYTHONPATH", pythonClient)
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	output, err := program(t, programs, "/usr/bin/python3", "-W", "error", "pool.py", kubeconfig(t, account, f.pool.Namespace),
		files, direct.Host, filepath.Join(files, "connpool.crt"), filepath.Join(files, "ca.crt"), f.pool.Name)
	if err != nil || !strings.HasSuffix(output, "ok\n") {
		t.Errorf("connpool.py: %v\n%s", err, output)
	}
}

func TestTheJavaScriptClientRunsCommands(t *testing.T) {
	look(t, programs+"/exec.mjs", programs+"/package*.json")
	f := warm(t, startSSHD(t))
	if _, err := os.Stat(filepath.Join(programs, "node_modules")); err != nil {
		output, err := program(t, programs, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		if err != nil {
			t.Fatalf("npm ci: %v\n%s", err, output)
		}
	}
	output, err := program(t, programs, "node", "exec.mjs", kubeconfig(t, worker(t, f.pool.Namespace), f.pool.Namespace), f.pool.Namespace, f.pool.Name)
	if err != nil || !strings.HasSuffix(output, "ok\n") {
		t.Errorf("@kubernetes/client-node: %v\n%s", err, output)
	}
}

func TestKubectlKnowsTheLiveAPI(t *testing.T) {
	f := warm(t, startSSHD(t))
	f.mustEcho(t, "once")
	folder, err := binaries.Ensure(t.Context(), binaries.Printer(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	account := kubeconfig(t, worker(t, f.pool.Namespace), f.pool.Namespace)
	request := filepath.Join(t.TempDir(), "exec.json")
	if err := os.WriteFile(request, []byte(`{"spec":{"command":["sh","-c","echo hi; exit 4"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	execPath := "/apis/live.connpool.dev/v1alpha1/namespaces/" + f.pool.Namespace + "/connectionpools/web/exec"
	tests := map[string]struct {
		arguments []string
		want      []string
	}{
		"get connections":                {[]string{"get", "connections"}, []string{"POOL", "web", "Idle"}},
		"get by field":                   {[]string{"get", "connections", "--field-selector=pool=web,state=Idle", "-o", "name"}, []string{"connection.live.connpool.dev/web-"}},
		"get by label":                   {[]string{"get", "cconn", "-l", "app=web", "-o", "jsonpath={.items[0].pool}"}, []string{"web"}},
		"get in pieces":                  {[]string{"get", "connections", "--chunk-size=1", "-o", "wide"}, []string{"OpenSSH"}},
		"api-resources":                  {[]string{"api-resources", "--api-group=live.connpool.dev"}, []string{"connections", "Connection"}},
		"explain":                        {[]string{"explain", "connections.roundTripMicroseconds"}, []string{"keepalive"}},
		"create --raw":                   {[]string{"create", "--raw", execPath, "-f", request}, []string{`"outcome":"Completed"`, `"exitCode":4`, `"stdout":"hi\n"`}},
		"auth can-i":                     {[]string{"auth", "can-i", "create", "connectionpools.live.connpool.dev/web", "--subresource=exec"}, []string{"yes"}},
		"the plural still means the CRD": {[]string{"api-resources", "--verbs=watch", "-o", "name"}, []string{"connectionpools.connpool.dev"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			output, err := program(t, ".", filepath.Join(folder, "kubectl"), append([]string{"--kubeconfig", account}, tc.arguments...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			for _, want := range tc.want {
				if !strings.Contains(output, want) {
					t.Errorf("%q is not in:\n%s", want, output)
				}
			}
		})
	}
	if output, err := program(t, ".", filepath.Join(folder, "kubectl"), "--kubeconfig", account, "create", "--raw",
		strings.Replace(execPath, "exec", "drain", 1), "-f", request); err == nil || !strings.Contains(output, "Forbidden") && !strings.Contains(output, "forbidden") {
		t.Errorf("a drain without permission: %v\n%s", err, output)
	}
}
