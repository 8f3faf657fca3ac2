//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connpool/connpool/test/dockerd"
)

// docker runs the stock client through a pool.
func docker(t *testing.T, pool string, args ...string) string {
	t.Helper()
	return through(t, pool, append([]string{"docker"}, args...)...)
}

func TestTheDockerClientWorksThroughAPool(t *testing.T) {
	for _, pool := range []string{"engine-unix", "engine-tls", "engine-ssh"} {
		t.Run(pool, func(t *testing.T) {
			t.Run("ps lists containers", func(t *testing.T) {
				if out := docker(t, pool, "ps", "--format={{.Names}}"); !strings.Contains(out, "web\n") {
					t.Errorf("it lists %q", out)
				}
			})
			t.Run("run starts one and returns its output and its exit code", func(t *testing.T) {
				if out := docker(t, pool, "run", "--rm", dockerd.Image, "echo", "hello"); out != "hello\n" {
					t.Errorf("it prints %q", out)
				}
				words := throughWords(pool, []string{"docker", "run", "--rm", dockerd.Image, "sh", "-c", "exit 9"})
				if got := runWith(t, nil, words...); got.code != 9 {
					t.Errorf("%+v, want exit code 9", got)
				}
			})
			t.Run("run -i passes input on until it ends", func(t *testing.T) {
				words := throughWords(pool, []string{"docker", "run", "--rm", "-i", dockerd.Image, "wc", "-c"})
				if got := runWith(t, strings.NewReader(strings.Repeat("x", 200_000)), words...); got.stdout != "200000\n" {
					t.Errorf("%+v", got)
				}
			})
			t.Run("logs -f follows", func(t *testing.T) { dockerLogs(t, pool) })
			t.Run("exec -it has a terminal", func(t *testing.T) {
				words := throughWords(pool, []string{"docker", "exec", "-it", "web", "tty"})
				if out := onTerminal(t, words...); !strings.Contains(out, "/dev/") {
					t.Errorf("tty says %q", out)
				}
			})
			t.Run("build builds an image", func(t *testing.T) { dockerBuild(t, pool) })
			t.Run("events arrive while they happen", func(t *testing.T) {
				events := follow(t, throughWords(pool, []string{"docker", "events", "--filter=event=create"})...)
				// The client does not say when it listens.
				for stop := goOn(events, "container create"); !stop(); {
					docker(t, pool, "rm", strings.TrimSpace(docker(t, pool, "create", dockerd.Image)))
				}
			})
			t.Run("cp copies both ways", func(t *testing.T) { dockerCopy(t, pool) })
		})
	}
}

// goOn returns a condition: whether the follower has printed the words already.
func goOn(f *follower, words string) (stop func() bool) {
	return func() bool {
		select {
		case line, more := <-f.lines:
			if !more {
				f.t.Fatal("it ended before it said anything")
			}
			return strings.Contains(line, words)
		default:
			return false
		}
	}
}

func dockerLogs(t *testing.T, pool string) {
	t.Helper()
	id := strings.TrimSpace(docker(t, pool, "run", "-d", dockerd.Image, "sh", "-c", "echo first; until [ -e /go ]; do usleep 20000; done; echo second; sleep 1000"))
	t.Cleanup(func() { docker(t, pool, "rm", "-f", id) })
	logs := follow(t, throughWords(pool, []string{"docker", "logs", "-f", id})...)
	logs.await("first")
	docker(t, pool, "exec", id, "touch", "/go")
	logs.await("second")
}

func dockerBuild(t *testing.T, pool string) {
	t.Helper()
	dir := t.TempDir()
	file := "FROM " + dockerd.Image + "\nCOPY greeting /greeting\nRUN tr a-z A-Z </greeting >/shouted\nCMD [\"cat\", \"/shouted\"]\n"
	for name, content := range map[string]string{"Dockerfile": file, "greeting": "built over a pool\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tag := "connpool.test/built:" + pool
	docker(t, pool, "build", "--quiet", "--network=none", "--tag="+tag, dir)
	if out := docker(t, pool, "run", "--rm", tag); out != "BUILT OVER A POOL\n" {
		t.Errorf("what was built prints %q", out)
	}
}

func dockerCopy(t *testing.T, pool string) {
	t.Helper()
	dir := t.TempDir()
	content := strings.Repeat("0123456789abcdef", 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "there"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	docker(t, pool, "cp", filepath.Join(dir, "there"), "web:/tmp/"+pool)
	docker(t, pool, "cp", "web:/tmp/"+pool, filepath.Join(dir, "back"))
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(back) != content {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(content), err)
	}
}
