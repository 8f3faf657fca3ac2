package portforward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestForwardsAreReadFromBothEnds(t *testing.T) {
	for _, c := range []struct {
		text string
		want forward
	}{
		{"5432", forward{"tcp", "5432", "5432"}},
		{"8080:80", forward{"tcp", "8080", "80"}},
		{":80", forward{"tcp", "0", "80"}},
		{"0:80", forward{"tcp", "0", "80"}},
		{"db:5432", forward{"tcp", "5432", "db:5432"}},
		{"8080:db:5432", forward{"tcp", "8080", "db:5432"}},
		{"[::1]:80", forward{"tcp", "80", "[::1]:80"}},
		{"8080:[::1]:80", forward{"tcp", "8080", "[::1]:80"}},
		{"unix:/run/a.sock", forward{"tcp", "0", "/run/a.sock"}},
		{"8080:unix:/run/a.sock", forward{"tcp", "8080", "/run/a.sock"}},
		{"unix:/tmp/a.sock:unix:/run/b.sock", forward{"unix", "/tmp/a.sock", "/run/b.sock"}},
		{"unix:a.sock:unix:/run/b.sock", forward{"unix", "a.sock", "/run/b.sock"}},
		{"unix:/tmp/a.sock:80", forward{"unix", "/tmp/a.sock", "80"}},
		{"unix:/tmp/a.sock:db:80", forward{"unix", "/tmp/a.sock", "db:80"}},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := parseForward(c.text, false)
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestForwardsThatLeadNowhereAreRefused(t *testing.T) {
	for _, text := range []string{"", "0", "65536", "80:0", "80:http", "http", "1:2:3:4", "99999:80", "unix:run.sock", "8080:unix:run"} {
		t.Run(text, func(t *testing.T) {
			if got, err := parseForward(text, false); err == nil {
				t.Errorf("read as %+v", got)
			}
		})
	}
}

// echo answers on each connection with the address, and then with what it gets.
// Each call of cut breaks the next of the forwards.
func echo(f *clitest.Fixture) (cut func()) {
	cuts := make(chan context.CancelFunc, 10)
	f.Answers[clitest.LivePools+"/web/portforward"] = func(out http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		cuts <- cancel
		query := r.URL.Query()
		stream.ServePortForward(out, r.WithContext(ctx), func(_ context.Context, port uint16) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				fmt.Fprintf(far, "%s%s %d of %s\n", query.Get("host"), query.Get("socket"), port, query.Get("target"))
				_, _ = io.Copy(far, far)
			}()
			return near, nil
		})
	}
	return func() { (<-cuts)() }
}

// talk sends a word through a forward and returns the greeting.
func talk(t *testing.T, network, address string) string {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "echo")
	scanner := bufio.NewScanner(conn)
	scanner.Scan()
	greeting := scanner.Text()
	if !scanner.Scan() || scanner.Text() != "echo" {
		t.Errorf("got %q back: %v", scanner.Text(), scanner.Err())
	}
	return greeting
}

func addressOf(line string) string { return strings.Fields(line)[2] }

func TestPortsAndSocketsAreForwardedAtTheSameTime(t *testing.T) {
	f := clitest.Shop(t, New)
	echo(f)
	socket := filepath.Join(t.TempDir(), "s")
	printed, stop := f.Start("port-forward", "web/web-1", "0:80", ":db:5432", "unix:"+socket+":unix:/run/b.sock")
	got := []string{
		talk(t, "tcp", addressOf(printed.Next("-> 80 on web/web-1"))),
		talk(t, "tcp", addressOf(printed.Next("-> db:5432 through web/web-1"))),
	}
	printed.Next(socket + " -> /run/b.sock on web/web-1")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has the permissions %v: %v", info.Mode(), err)
	}
	got = append(got, talk(t, "unix", socket))
	if diff := cmp.Diff([]string{" 80 of web-1", "db 5432 of web-1", "/run/b.sock 1 of web-1"}, got); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestAForwardOutlivesTheConnectionBehindIt(t *testing.T) {
	f := clitest.Shop(t, New)
	cut := echo(f)
	printed, stop := f.Start("port-forward", "web/web-1", ":80")
	address := addressOf(printed.Next("Forwarding from"))
	talk(t, "tcp", address)
	cut()
	// What was open may be reported beside these lines.
	for _, want := range []string{"Lost the connection to 80 on web/web-1", "Connected again to 80 on web/web-1"} {
		for line := ""; !strings.Contains(line, want); {
			line = printed.Next("")
		}
	}
	talk(t, "tcp", address)
	if code := stop(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
}

func TestAForwardThatCannotBeginEndsAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	f := clitest.Shop(t, New)
	echo(f)
	f.Denied["get live.connpool.dev/connectionpools/portforward"] = true
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", port+":80"), 1, "listen on port "+port+" of 127.0.0.1", "address already in use")
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", ":none"), 1, `"none" is not a valid port (1-65535)`)
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", "70000"), 1, `error: "70000" is not a valid port (1-65535)`)
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", "70000:80"), 1, `"70000" is not a valid local port (0-65535)`)
	delete(f.Answers, clitest.LivePools+"/web/portforward")
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", ":80"), 1, "This would permit it", "connectionpools/portforward")
}

func TestTheRoleForASocketHasBothRules(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["get live.connpool.dev/connectionpools/portforward"] = true
	const socketRule = "resources: [\"connectionpools/socketforward\"]\n  resourceNames: [\"web\"]\n  verbs: [create]\n"
	clitest.WantStderr(t, f.Run("port-forward", "web/web-1", "unix:/run/docker.sock"), 1,
		"resources: [\"connectionpools/portforward\"]\n  resourceNames: [\"web\"]\n  verbs: [create, get]\n", socketRule)
	if refused := f.Run("port-forward", "web/web-1", "80"); strings.Contains(refused.Stderr, "socketforward") {
		t.Errorf("a port needs no socketforward: %s", refused.Stderr)
	}
}

func TestAPodsPortIsForwarded(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Answers[clitest.LivePools+"/web/portforward"] = func(out http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		stream.ServePortForward(out, r, func(_ context.Context, port uint16) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				fmt.Fprintf(far, "%d of %s in %s\n", port, query.Get("pod"), query.Get("namespace"))
			}()
			return near, nil
		})
	}
	printed, stop := f.Start("port-forward", "web", "--pod", "w-0", "--pod-namespace", "n", ":80")
	line := printed.Next("-> 80 of pod w-0 on web")
	conn, err := net.Dial("tcp", strings.Fields(line)[2])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "80 of w-0 in n\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOnlyPortsOfAPodAreForwarded(t *testing.T) {
	for _, remote := range []string{"db:80", "unix:/run/a.sock"} {
		clitest.WantStderr(t, clitest.Shop(t, New).Run("port-forward", "web", "--pod", "w-0", "8080:"+remote), 1, "is not a port of a pod")
	}
}

func TestAPortOfAPodMayHaveAName(t *testing.T) {
	for text, want := range map[string]forward{
		"8080:http": {"tcp", "8080", "http"}, "http": {"tcp", "0", "http"}, ":http": {"tcp", "0", "http"},
		"unix:/tmp/a.sock:http": {"unix", "/tmp/a.sock", "http"}, "80": {"tcp", "80", "80"},
	} {
		if got, err := parseForward(text, true); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	f := clitest.Shop(t, New)
	f.Answers[clitest.LivePools+"/web/portforward"] = func(out http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		stream.ServePortForward(out, r, func(context.Context, uint16) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				fmt.Fprintf(far, "%s of %s\n", query.Get("port"), query.Get("pod"))
			}()
			return near, nil
		})
	}
	printed, stop := f.Start("port-forward", "web", "--pod", "w-0", ":http")
	conn, err := net.Dial("tcp", addressOf(printed.Next("-> http of pod w-0 on web")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "http of w-0\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAPodThatIsAbsentIsSaidBeforeAnythingIsForwarded(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Answers[clitest.LivePools+"/web/portforward"] = func(out http.ResponseWriter, _ *http.Request) {
		refusal := *clitest.Fails(livev1alpha1.OutcomeNotStarted, "NotFound", "there is no pod w-0")
		refusal.Code, refusal.Reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
		f.Refuse(out, refusal)
	}
	got := f.Run("port-forward", "web", "--pod", "w-0", ":80")
	clitest.Want(t, got, 1, "")
	clitest.WantStderr(t, got, 1, "error: there is no pod w-0 (request req-7)")
	if strings.Contains(got.Stderr, "command") {
		t.Errorf("it speaks of a command: %s", got.Stderr)
	}
}
