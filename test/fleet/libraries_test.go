//go:build e2e

package fleet

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The libraries of both tools, each built in a module of its own, apply and watch through
// the proxy with what the samples give to the tools.
func TestLibrariesOfGitOpsToolsManageACluster(t *testing.T) {
	for _, tool := range []string{"flux", "argocd"} {
		t.Run(tool, func(t *testing.T) {
			m := manage(t, "with-"+tool)
			create(t, env.admin, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "with-" + tool}}) // in the spoke
			p := startTool(t, m, tool, "with-"+tool)
			p.step(t, 1)
			m.rotate(t)
			p.step(t, 2)
			restart(t)
			m.answers(t)
			p.step(t, 3)
			p.end(t)
		})
	}
}

// tool is a program of a GitOps tool's library.
type tool struct {
	input  io.WriteCloser
	output *bufio.Reader
}

// startTool builds a tool and starts it with its Secret of the samples.
func startTool(t *testing.T, m *managed, name, space string) *tool {
	t.Helper()
	program := filepath.Join(env.dir, name)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = name
	if complaint, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, complaint)
	}
	account := m.user(t)
	secret := strings.NewReplacer(
		"TOKEN_OF_GITOPS", account.BearerToken, "AUTHORITY_IN_BASE64", base64.StdEncoding.EncodeToString(account.CAData),
	).Replace(m.sampleText(t, name+".yaml"))
	file := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, file, space)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Wait() })
	return &tool{input, bufio.NewReader(output)}
}

// step lets the tool apply a step.
func (p *tool) step(t *testing.T, n int) {
	t.Helper()
	if _, err := fmt.Fprintln(p.input, n); err != nil {
		t.Fatal(err)
	}
	p.await(t, fmt.Sprintf("step %d:", n))
}

// end lets it remove what it made.
func (p *tool) end(t *testing.T) {
	t.Helper()
	if err := p.input.Close(); err != nil {
		t.Fatal(err)
	}
	p.await(t, "end")
}

// await reads the tool's output up to a line that has the words.
func (p *tool) await(t *testing.T, words string) {
	t.Helper()
	for {
		line, err := p.output.ReadString('\n')
		t.Log(strings.TrimSpace(line))
		switch {
		case err != nil || strings.HasPrefix(line, "error:"):
			t.Fatalf("no %q: %v", words, err)
		case strings.Contains(line, words):
			return
		}
	}
}
