package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/atmostonce"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/openssh"
)

// sshUser logs in where the tests run as root. sshd delivers no signals to commands of
// root.
const sshUser = "connpool-test"

// startPlainSSHD is startSSHD for a user whose commands can be signaled.
func startPlainSSHD(t *testing.T, config ...string) *openssh.Server {
	t.Helper()
	options := openssh.Options{Config: config}
	if os.Geteuid() == 0 {
		options.User = sshUser
	}
	server, err := openssh.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// makeSSHUser makes sshUser for one test and its subtests.
func makeSSHUser(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	remove, err := openssh.CreateUser(sshUser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
}

// ledgerOn makes a file to which commands on the server can append.
func ledgerOn(t *testing.T, server *openssh.Server) *atmostonce.Ledger {
	t.Helper()
	ledger, err := atmostonce.NewLedger(filepath.Join(server.Dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// directly returns a configuration by which the same user calls the operator's own
// port.
func directly(t *testing.T, account *rest.Config) *rest.Config {
	t.Helper()
	var certificates corev1.Secret
	key := client.ObjectKey{Namespace: controlplane.APINamespace, Name: controlplane.APIService + "-certs"}
	if err := env.client.Get(t.Context(), key, &certificates); err != nil {
		t.Fatalf("find the authority of the live API: %v", err)
	}
	return &rest.Config{
		Host: "https://" + env.live, BearerToken: account.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificates.Data["ca.crt"]},
	}
}

// usable returns a warm pool and a configuration by which a worker can use it
// directly.
func usable(t *testing.T, edits ...func(*v1alpha1.ConnectionPoolSpec)) (fixture, *rest.Config) {
	t.Helper()
	f := warm(t, startPlainSSHD(t), edits...)
	config := directly(t, worker(t, f.pool.Namespace))
	eventually(t, 15*time.Second, "the worker may use the pool", func() (bool, string) {
		code, _, err := post(t.Context(), config, f, live.ExecSpec{Shell: "true"})
		return err == nil && code == http.StatusOK, fmt.Sprint(code, err)
	})
	return f, config
}

// proxied returns a configuration by which the same user calls kube-apiserver.
func proxied(account *rest.Config) *rest.Config {
	config := rest.AnonymousClientConfig(env.config)
	config.BearerToken = account.BearerToken
	return config
}

// poolOf returns the fixture's pool for the checker.
func poolOf(f fixture, config *rest.Config) atmostonce.Pool {
	return atmostonce.Pool{Config: config, Namespace: f.pool.Namespace, Name: f.pool.Name}
}

// everyClient returns every client, each one directly and through kube-apiserver. It
// returns when each has run a command.
func everyClient(t *testing.T, f fixture, account *rest.Config) []atmostonce.Client {
	t.Helper()
	direct, err := poolOf(f, directly(t, account)).Clients("direct ")
	if err != nil {
		t.Fatal(err)
	}
	viaServer, err := poolOf(f, account).Clients("proxied ")
	if err != nil {
		t.Fatal(err)
	}
	clients := make([]atmostonce.Client, 0, len(direct)+len(viaServer))
	for i := range direct {
		clients = append(clients, direct[i], viaServer[i])
	}
	for _, c := range clients {
		t.Cleanup(c.Close)
		eventually(t, 15*time.Second, "a command by "+c.Name, func() (bool, string) {
			report := c.Run(t.Context(), "true")
			return report.Outcome == live.OutcomeCompleted, errorText(report.Err)
		})
	}
	return clients
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// post sends a command in the JSON form and returns the answer.
func post(ctx context.Context, config *rest.Config, f fixture, spec live.ExecSpec) (int, live.Exec, error) {
	var exec live.Exec
	body, err := json.Marshal(&live.Exec{Spec: spec})
	if err != nil {
		return 0, exec, err
	}
	poster, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, exec, err
	}
	defer poster.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, execURL(config, f), bytes.NewReader(body))
	if err != nil {
		return 0, exec, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := poster.Do(request)
	if err != nil {
		return 0, exec, err
	}
	defer response.Body.Close()
	return response.StatusCode, exec, json.NewDecoder(response.Body).Decode(&exec)
}

func execURL(config *rest.Config, f fixture) string {
	return config.Host + "/apis/" + live.GroupName + "/v1alpha1/namespaces/" + f.pool.Namespace + "/connectionpools/" + f.pool.Name + "/exec"
}

// leases waits until exactly so many uses run in the pool.
func leases(t *testing.T, bound time.Duration, f fixture, want int) {
	t.Helper()
	eventually(t, bound, "so many uses run", func() (bool, string) {
		seen := observe(f.pool, f.target).Leases
		return seen == want, itoa(int32(seen))
	})
}

// manySessions lets one connection carry a whole load.
func manySessions(spec *v1alpha1.ConnectionPoolSpec) {
	spec.Size = v1alpha1.PoolSize{MinWarm: new(int32(1)), Max: new(int32(4))}
	spec.SessionsPerConnection = new(int32(8))
	spec.Acquire.TimeoutSeconds = new(int32(10))
}

// marksOn makes a file in which commands on the server write how far they got.
func marksOn(t *testing.T, server *openssh.Server) string {
	t.Helper()
	file, err := os.CreateTemp(server.Dir, "marks-")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Close(), os.Chmod(file.Name(), 0o666)); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// trapped returns a command line that runs until it is signaled or the file is gone.
func trapped(marks string) string {
	return fmt.Sprintf("trap 'echo signaled >>%[1]s; exit 1' TERM HUP PIPE; echo started >>%[1]s; while [ -e %[1]s ]; do sleep 0.1; done", marks)
}

func awaitMark(t *testing.T, bound time.Duration, marks, word string) {
	t.Helper()
	eventually(t, bound, "the command has "+word, func() (bool, string) {
		text, err := os.ReadFile(marks)
		return err == nil && strings.Contains(string(text), word), string(text)
	})
}
