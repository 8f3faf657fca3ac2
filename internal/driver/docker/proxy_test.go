package docker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// passer serves an engine's API through a connection, as the live API does.
type passer struct{ proxier driver.Proxier }

// RoundTrip implements http.RoundTripper.
func (p passer) RoundTrip(request *http.Request) (*http.Response, error) {
	return p.proxier.Proxy(request)
}

// serveProxy returns the DOCKER_HOST for the command line client.
func serveProxy(t *testing.T, proxier driver.Proxier) string {
	t.Helper()
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, Transport: passer{proxier}, FlushInterval: -1, ErrorLog: quiet,
	})
	server.Config.ErrorLog = quiet
	server.Start()
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

// stock is the command line client, through a proxy to an engine.
type stock struct {
	t    *testing.T
	host string
}

func (s stock) command(ctx context.Context, arguments ...string) *exec.Cmd {
	s.t.Helper()
	cmd, err := dockerd.Command(ctx, s.host, arguments...)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=0")
	return cmd
}

// run returns the output of a client that must succeed.
func (s stock) run(stdin string, arguments ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := s.command(ctx, arguments...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("docker %s: %v: %s", strings.Join(arguments, " "), err, &stderr)
	}
	return string(out)
}

// follow starts a client that does not end by itself, and returns its first lines.
func (s stock) follow(lines int, then func(line string), arguments ...string) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := s.command(ctx, arguments...)
	output, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for scanner := bufio.NewScanner(output); len(got) < lines && scanner.Scan(); {
		got = append(got, scanner.Text())
		then(scanner.Text())
	}
	cancel()
	_ = cmd.Wait()
	return got
}

func TestTheStockClientWorksThroughTheProxy(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	for name, endpointOf := range transports {
		t.Run(name, func(t *testing.T) {
			client := stock{t, serveProxy(t, mustDial(t, Options{}, endpointOf(engine)))}
			checkStock(t, client, place.Container)
		})
	}
}

func checkStock(t *testing.T, client stock, container string) {
	t.Helper()
	t.Run("ps", func(t *testing.T) {
		if out := client.run("", "ps", "--format={{.Names}}"); !slices.Contains(strings.Fields(out), container) {
			t.Errorf("output %q", out)
		}
	})
	t.Run("run attached, with input", func(t *testing.T) {
		if out := client.run("some input", "run", "--rm", "--interactive", dockerd.Image, "cat"); out != "some input" {
			t.Errorf("output %q", out)
		}
	})
	t.Run("exec, with its exit code", func(t *testing.T) {
		err := client.command(t.Context(), "exec", container, "sh", "-c", "exit 42").Run()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 42 { //nolint:errorlint // as exec returns it
			t.Errorf("error %v, want exit code 42", err)
		}
		large := strings.Repeat("0123456789", 500_000)
		if out := client.run(large, "exec", "--interactive", container, "cat"); out != large {
			t.Errorf("%d bytes of %d came back", len(out), len(large))
		}
	})
	t.Run("exec with a terminal", func(t *testing.T) { execTerminal(t, client, container) })
	t.Run("logs that go on", func(t *testing.T) {
		logged := strings.TrimSpace(client.run("", "run", "--detach", dockerd.Image, "sh", "-c", "i=0; while :; do echo line $((i+=1)); sleep 0.05; done"))
		got := client.follow(5, func(string) {}, "logs", "--follow", logged)
		if want := []string{"line 1", "line 2", "line 3", "line 4", "line 5"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		client.run("", "rm", "--force", logged)
	})
	t.Run("events as they happen", func(t *testing.T) {
		from := client.run("", "create", "--label=marked=yes", dockerd.Image, "true")
		got := client.follow(2, func(line string) {
			if strings.HasSuffix(line, " create") {
				client.run("", "start", strings.TrimSpace(from))
			}
		}, "events", "--since=10s", "--filter=label=marked=yes", "--filter=event=create", "--filter=event=start", "--format={{.ID}} {{.Action}}")
		if len(got) != 2 || !strings.HasSuffix(got[1], " start") {
			t.Errorf("%q", got)
		}
		client.run("", "rm", "--force", strings.TrimSpace(from))
	})
	t.Run("build, and cp both ways", func(t *testing.T) { buildAndCopy(t, client, container) })
}

// execTerminal types into a shell, and resizes its window before.
func execTerminal(t *testing.T, client stock, container string) {
	t.Helper()
	cmd := client.command(t.Context(), "exec", "--interactive", "--tty", container, "sh")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 91})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close() //nolint:errcheck // it has ended
	_, _ = terminal.WriteString("tty; until test \"$(stty size 2>/dev/null)\" = '31 91'; do sleep 0.05; done; echo si\"\"zed; exit 5\n")
	output, _ := io.ReadAll(terminal) // ends with an error, as terminals do
	err = cmd.Wait()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 5 { //nolint:errorlint // as exec returns it
		t.Errorf("error %v, want exit code 5", err)
	}
	if !strings.Contains(string(output), "/dev/pts/") || !strings.Contains(string(output), "sized") {
		t.Errorf("output %q", output)
	}
}

func buildAndCopy(t *testing.T, client stock, container string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", "FROM "+dockerd.Image+"\nCOPY data /data\nRUN wc -c < /data > /size\n")
	write("data", strings.Repeat("x", 5<<20))
	client.run("", "build", "--tag=built", dir)
	if out := client.run("", "run", "--rm", "built", "cat", "/size"); strings.TrimSpace(out) != "5242880" {
		t.Errorf("the image says %q", out)
	}
	client.run("", "cp", filepath.Join(dir, "data"), container+":/var/data")
	client.run("", "cp", container+":/var/data", filepath.Join(dir, "back"))
	if back, err := os.ReadFile(filepath.Join(dir, "back")); len(back) != 5<<20 || err != nil {
		t.Errorf("%d bytes came back, error %v", len(back), err)
	}
}

func proxy(t *testing.T, conn driver.Proxier, method, path string, header http.Header) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	return conn.Proxy(request)
}

func TestHopByHopHeadersAndCredentialsAreNotPassedOn(t *testing.T) {
	seen := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_ping" {
			seen <- r.Header
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
			return
		}
		pong(w, r)
	}))
	defer server.Close()
	endpoint := driver.Endpoint{Network: "unix", Address: "/docker.sock", Dial: dialTo(server.Listener.Addr().String())}
	conn := mustDial(t, Options{}, endpoint)
	response, err := proxy(t, conn, http.MethodPost, "/v1.41/containers/x/kill", http.Header{
		"Authorization": {"Bearer ours"}, "Cookie": {"ours"}, "Idempotency-Key": {"again"}, "Connection": {"X-Hop, keep-alive"},
		"X-Hop": {"1"}, "X-Registry-Auth": {"theirs"}, "Upgrade": {"h2c"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusFound {
		t.Errorf("status %d: a redirect was followed", response.StatusCode)
	}
	got := <-seen
	for _, name := range []string{"Authorization", "Cookie", "Idempotency-Key", "X-Hop", "Upgrade", "User-Agent", "Accept-Encoding"} {
		if values, ok := got[name]; ok {
			t.Errorf("%s: %q was passed on", name, values)
		}
	}
	if got.Get("X-Registry-Auth") != "theirs" {
		t.Errorf("headers %v", got)
	}
}

func TestAnUpgradeIsAStreamWhoseInputCanEnd(t *testing.T) {
	engine := sharedEngine(t)
	place := startContainer(t, engine)
	for name, endpointOf := range transports {
		conn := mustDial(t, Options{}, endpointOf(engine))
		created, err := conn.client.ContainerExecCreate(t.Context(), place.Container,
			execOptions(driver.Command{Argv: []string{"wc", "-c"}}, true, rand.Text()))
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/exec/"+created.ID+"/start", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"upgrade"}, "Upgrade": {"tcp"}}
		response, err := conn.Proxy(request) //nolint:bodyclose // as a stream
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %+v, error %v", name, response, err)
		}
		stream := response.Body.(interface {
			io.ReadWriteCloser
			driver.HalfCloser
		})
		_, _ = io.WriteString(stream, "four")
		_ = stream.CloseWrite()
		output, err := io.ReadAll(stream)
		_ = stream.Close()
		if !bytes.Equal(output, frame(1, "4\n")) || err != nil {
			t.Errorf("%s: output %q, error %v", name, output, err)
		}
	}
}

func TestARequestThatBreaksSaysWhetherItMayHaveArrived(t *testing.T) {
	engine := dockerd.Start(t)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	engine.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "/containers/x/kill", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	go cancel()
	_, err = conn.Proxy(request) //nolint:bodyclose // there is none
	wantError(t, err, driver.Timeout, driver.StageRun)
	engine.Kill()
	<-conn.Context().Done()
	_, err = proxy(t, conn, http.MethodPost, "/containers/x/kill", nil) //nolint:bodyclose // there is none
	if got := wantError(t, err, driver.Unreachable, driver.StageSession); got.Started {
		t.Error("a request on a dead connection may have arrived")
	}
}
