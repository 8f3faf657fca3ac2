//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// place is where commands run: a pool, and the flags that name the container or pod.
type place struct {
	name, pool string
	flags      []string
	spec       live.ExecSpec
}

func places() []place {
	container, pod := live.ExecSpec{Container: "web"}, live.ExecSpec{Pod: "web"}
	return []place{
		{"a host", "host", nil, live.ExecSpec{}},
		{"a container, by a local socket", "engine-unix", []string{"--container=web"}, container},
		{"a container, by TLS", "engine-tls", []string{"--container=web"}, container},
		{"a container, by SSH", "engine-ssh", []string{"--container=web"}, container},
		{"a pod", "cluster", []string{"--pod=web"}, pod},
	}
}

// exec runs a command line of the plugin there.
func (p place) exec(t *testing.T, stdin string, flags []string, words ...string) result {
	t.Helper()
	args := append([]string{"exec", p.pool}, p.flags...)
	args = append(append(args, flags...), "--")
	return tryConnpool(t, stdin, append(args, words...)...)
}

func TestCommandsRunEverywhereAsOneWouldExpect(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			t.Run("output, errors and the exit code come back apart", func(t *testing.T) {
				got := p.exec(t, "", nil, "sh", "-c", "echo out; echo err >&2; exit 7")
				if got.stdout != "out\n" || !strings.Contains(got.stderr, "err\n") || got.code != 7 {
					t.Errorf("%+v", got)
				}
			})
			t.Run("arguments arrive as given", func(t *testing.T) {
				if got := p.exec(t, "", nil, "printf", "%s|", "a b", "$HOME", `"*"`, ""); got.stdout != `a b|$HOME|"*"||` {
					t.Errorf("%+v", got)
				}
			})
			t.Run("input of any bytes arrives whole and ends", func(t *testing.T) {
				input := strings.Repeat("\x00\xff\r\n\x1b", 100_000)
				if got := p.exec(t, input, []string{"-i"}, "cat"); got.stdout != input || got.code != 0 {
					t.Errorf("%d bytes came back of %d, exit code %d: %s", len(got.stdout), len(input), got.code, got.stderr)
				}
			})
			t.Run("variables are set", func(t *testing.T) {
				if got := p.exec(t, "", []string{"--env=LC_STAGE=test"}, "sh", "-c", "echo $LC_STAGE"); got.stdout != "test\n" {
					t.Errorf("%+v", got)
				}
			})
			t.Run("a program without a library gets the same", func(t *testing.T) {
				spec := p.spec
				spec.Command = []string{"sh", "-c", "cat; exit 3"}
				spec.Stdin = []byte("over HTTP")
				for name, config := range map[string]*rest.Config{"kube-apiserver": fixture.worker, "the operator's port": fixture.direct} {
					code, got := post(t, config, p.pool, spec)
					if code != http.StatusOK || got.Outcome != live.OutcomeCompleted || got.Stdout != "over HTTP" || *got.ExitCode != 3 {
						t.Errorf("by %s: %d %+v", name, code, got)
					}
				}
			})
		})
	}
}

// post sends a command in the JSON form.
func post(t *testing.T, config *rest.Config, pool string, spec live.ExecSpec) (int, live.ExecStatus) {
	t.Helper()
	body, err := json.Marshal(live.Exec{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	poster, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer poster.CloseIdleConnections()
	address := config.Host + "/apis/" + live.GroupVersion.String() + "/namespaces/default/connectionpools/" + pool + "/exec"
	response, err := poster.Post(address, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var exec live.Exec
	if err := json.NewDecoder(response.Body).Decode(&exec); err != nil && response.StatusCode == http.StatusOK {
		t.Fatal(err)
	}
	return response.StatusCode, exec.Status
}

func TestACommandThatNamesNoContainerRunsInTheOnlyOne(t *testing.T) {
	got := tryConnpool(t, "", "exec", "engine-unix", "--", "true")
	if got.code != 0 || !strings.Contains(got.stderr, "Defaulted container") {
		t.Errorf("exit code %d, and on standard error:\n%s", got.code, got.stderr)
	}
}

func TestACommandForAPlaceThatIsNotThereSaysSoAndDoesNotRun(t *testing.T) {
	const notRun = 254
	tests := map[string]struct {
		args []string
		want string
	}{
		"no such container":              {[]string{"engine-unix", "--container=nobody"}, "nobody"},
		"no such pod":                    {[]string{"cluster", "--pod=nobody"}, "nobody"},
		"a pod that is not named":        {[]string{"cluster"}, "pod"},
		"a container of a host":          {[]string{"host", "--container=web"}, "container"},
		"a namespace that is off limits": {[]string{"cluster", "--pod=web", "--pod-namespace=kube-system"}, "kube-system"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := tryConnpool(t, "", append(append([]string{"exec"}, tc.args...), "--", "true")...)
			if got.code != notRun || !strings.Contains(got.stderr, tc.want) {
				t.Errorf("exit code %d, want %d, and %q in:\n%s", got.code, notRun, tc.want, got.stderr)
			}
		})
	}
}

func TestATerminalIsOneInAContainerAndInAPod(t *testing.T) {
	for _, p := range places()[1:] {
		t.Run(p.name, func(t *testing.T) {
			words := append([]string{"kubectl", "connpool", "exec", "-it", p.pool}, p.flags...)
			if got := onTerminal(t, append(words, "--", "tty")...); !strings.Contains(got, "/dev/pts/") && !strings.Contains(got, "/dev/console") {
				t.Errorf("tty says %q", got)
			}
		})
	}
}

func TestAPortOfAPodIsForwarded(t *testing.T) {
	forward := follow(t, "kubectl", "connpool", "port-forward", "cluster", "--pod=web", "0:8080")
	checkPage(t, forward.await("127.0.0.1:"))
}

// checkPage asks for the pod's page at the address in a line.
func checkPage(t *testing.T, line string) {
	t.Helper()
	_, after, _ := strings.Cut(line, "127.0.0.1:")
	port := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
	response, err := http.Get("http://127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var page bytes.Buffer
	if _, err := page.ReadFrom(response.Body); err != nil || page.String() != "hello from a pod\n" {
		t.Errorf("the page is %q, %v", &page, err)
	}
}
