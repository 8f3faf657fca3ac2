package tour

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/test/lab"
	"github.com/connpool/connpool/test/openssh"
)

var update = flag.Bool("update", false, "write what the commands print into the documents")

// asLab makes the test binary the command of the lab.
const asLab = "CONNPOOL_TEST_TOUR_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(asLab) != "" {
		os.Exit(lab.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// runLab is what the first terminal of a document does.
const runLab = "make run"

// The documents show these, whatever they are in a run.
const (
	shownUser = "dev"
	apiPort   = "16443"
	sshPort   = "12222"
	metrics   = "18443"
	live      = "19443"
)

const (
	readme   = "README.md"
	tutorial = "docs/tutorial/first-pool.md"
)

func TestTheTourWithSSHD(t *testing.T) {
	if !openssh.Installed() {
		t.Fatal("sshd is not installed: make test-deps")
	}
	newTour(t, "--embedded-ssh=false").take(withoutNode)
}

func TestTheTourOnABareMachine(t *testing.T) {
	newTour(t, "--embedded-ssh").take(withoutNode)
}

// needsNode recognizes the sections with containers and pods.
var needsNode = regexp.MustCompile(`(?i)containers`)

func withoutNode(s step) bool { return !needsNode.MatchString(s.section) }

// tour runs the steps of the documents beside one lab.
type tour struct {
	*shell

	labFlags []string
	ports    map[string]string // by the port that is shown
	user     string
	lab      *exec.Cmd
	labOut   buffer
}

func newTour(t *testing.T, labFlags ...string) *tour {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(checkout(t), "bin"), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tr := &tour{labFlags: append(labFlags, "--dir="+filepath.Join(dir, ".lab")), user: current.Username, ports: map[string]string{}}
	for _, shown := range []string{apiPort, sshPort, metrics, live} {
		tr.ports[shown] = freePort(t)
	}
	// An ordinary user's, without what this machine's user has set.
	tr.shell = newShell(t, dir, asLab+"=1", "LAB="+executable, "CHECKOUT="+checkout(t), "HOME="+dir, "USER=", "KUBECONFIG=")
	t.Cleanup(tr.endLab)
	return tr
}

// freePort returns a port below those that the kernel gives to others, so that it is still
// free when the lab takes it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(12000))
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// take runs the steps of both documents that are wanted.
func (tr *tour) take(wanted func(step) bool) {
	for _, document := range []string{readme, tutorial} {
		steps := parse(document, read(tr.t, document))
		if !slices.ContainsFunc(steps, wanted) {
			continue
		}
		printed := map[int][]string{}
		if document == readme { // where make run is not among the steps
			tr.startLab()
			tr.await("all is warm but")
		}
		for _, s := range steps {
			if !wanted(s) {
				continue
			}
			if got, ok := tr.try(s); !ok {
				if s.command != runLab {
					printed[s.line] = got
				}
				tr.t.Errorf("%s:%d: $ %s\nprints\n    %s\nand not\n    %s", s.document, s.line+1, s.command,
					strings.Join(got, "\n    "), strings.Join(s.want, "\n    "))
			}
		}
		if *update {
			rewrite(tr.t, document, steps, printed)
		}
		tr.endLab()
	}
}

// try runs a step, again and again if that does no harm, until it prints what it should.
func (tr *tour) try(s step) (got []string, ok bool) {
	tr.t.Logf("%s:%d: $ %s", s.document, s.line+1, s.command)
	run := func() ([]string, bool) { return tr.once(s) }
	switch {
	case s.command == runLab:
		tr.startLab()
		run = func() ([]string, bool) { return tr.seen(s) }
	case strings.HasPrefix(s.command, "kubectl connpool port-forward"):
		return tr.inBackground(s)
	}
	limit := time.Now().Add(tr.patience(s))
	for {
		if got, ok = run(); ok || time.Now().After(limit) {
			return got, ok
		}
		<-time.After(200 * time.Millisecond)
	}
}

var looks = regexp.MustCompile(`^(make run|kubectl (get|describe|events|connpool (status|connections|history|top))|grep|curl)\b`)

func (tr *tour) patience(s step) time.Duration {
	if !looks.MatchString(s.command) {
		return 0
	}
	if *update && s.command != runLab {
		return 5 * time.Second
	}
	return stepLimit
}

func (tr *tour) once(s step) (got []string, ok bool) {
	lines, code := tr.run(tr.translated(s.command))
	got = tr.shown(lines)
	if len(s.want) == 0 {
		return got, code == "0" && len(got) == 0
	}
	if slices.Equal(s.want, []string{anything}) && code != "0" {
		return got, false
	}
	return got, matches(s.want, got)
}

// seen compares what the lab has printed so far.
func (tr *tour) seen(s step) (got []string, ok bool) {
	got = tr.shown(linesOf(tr.labOut.bytes()))
	return got, matches(append(s.want, anything), got)
}

// inBackground runs a command that does not end by itself until it has printed what it
// should.
func (tr *tour) inBackground(s step) (got []string, ok bool) {
	command := tr.translated(s.command)
	script := fmt.Sprintf("%s >.background 2>&1 & pid=$!\nfor i in $(seq 300); do [ $(wc -l <.background) -ge %d ] && break; sleep 0.1; done\n"+
		"kill $pid; wait $pid\ncat .background", command, len(s.want))
	lines, _ := tr.run(script)
	got = tr.shown(lines)
	return got, matches(s.want, got[:min(len(got), len(s.want))])
}

// translated puts in what differs from the documents: ports, and the lab's command.
func (tr *tour) translated(command string) string {
	for shown, port := range tr.ports {
		command = strings.ReplaceAll(command, shown, port)
	}
	flags := strings.Join(tr.labFlags, " ")
	return strings.NewReplacer(
		"go run ./hack/lab new-key", `"$LAB" new-key `+flags,
		"go run ./hack/lab ssh-stop", `"$LAB" ssh-stop `+flags,
		"go run ./hack/lab ssh-start", `"$LAB" ssh-start `+flags,
		"make lab-node-up", `(cd "$CHECKOUT"; "$LAB" node-up `+flags+`)`,
		shownUser+"@127", tr.user+"@127",
	).Replace(command)
}

// shown puts in what the documents show.
func (tr *tour) shown(lines []string) (result []string) {
	host := regexp.MustCompile(`\b` + tr.user + `@127\.0\.0\.1:[0-9]+( {2,})?`)
	for _, line := range lines {
		line = strings.ReplaceAll(strings.TrimRight(line, "\r "), tr.dir+"/", "")
		line = host.ReplaceAllStringFunc(line, tr.shownHost)
		for shown, port := range tr.ports {
			line = strings.ReplaceAll(line, port, shown)
		}
		line = regexp.MustCompile(`\b`+tr.user+` (logged in|at)`).ReplaceAllString(line, shownUser+" $1")
		result = append(result, line)
	}
	return result
}

// shownHost keeps the columns of a table where they are.
func (tr *tour) shownHost(host string) string {
	shown := shownUser + strings.TrimPrefix(strings.ReplaceAll(strings.TrimRight(host, " "), tr.ports[sshPort], sshPort), tr.user)
	if strings.HasSuffix(host, " ") {
		return fmt.Sprintf("%-*s", len(host), shown)
	}
	return shown
}

func (tr *tour) startLab() {
	tr.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		tr.t.Fatal(err)
	}
	args := append([]string{
		"run", "--api-port=" + tr.ports[apiPort], "--ssh-port=" + tr.ports[sshPort],
		"--metrics-port=" + tr.ports[metrics], "--live-port=" + tr.ports[live],
	}, tr.labFlags...)
	tr.lab = exec.Command(executable, args...)
	tr.lab.Env = append(os.Environ(), asLab+"=1")
	tr.lab.Dir = checkout(tr.t)
	tr.lab.Stdout, tr.lab.Stderr = &tr.labOut, &tr.labOut
	if err := tr.lab.Start(); err != nil {
		tr.t.Fatal(err)
	}
}

// await returns when the lab has said something.
func (tr *tour) await(what string) {
	tr.t.Helper()
	limit := time.After(stepLimit)
	for !bytes.Contains(tr.labOut.bytes(), []byte(what)) {
		select {
		case <-limit:
			tr.t.Fatalf("the lab does not say %q, but\n%s", what, tr.labOut.bytes())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// endLab is Ctrl-C in the first terminal.
func (tr *tour) endLab() {
	if tr.lab == nil {
		return
	}
	_ = tr.lab.Process.Signal(syscall.SIGINT)
	if err := tr.lab.Wait(); err != nil {
		tr.t.Errorf("the lab ends with %v", err)
	}
	tr.lab = nil
	if !bytes.Contains(tr.labOut.bytes(), []byte("nothing is left running")) {
		tr.t.Errorf("the lab does not say that nothing is left running:\n%s", tr.labOut.bytes())
	}
	tr.labOut.reset()
}

// buffer may be written and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text.Bytes())
}

func (b *buffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}
