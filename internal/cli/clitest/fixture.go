// Package clitest is test support for the commands of the plugin: a fixture that
// stands for a cluster with connpool, and runs command lines against it.
//
// The fixture is an HTTP server that answers as the two APIs of connpool would,
// and as the few others that commands ask. A test hands it the command under test,
// fills in what the cluster holds, and runs a line as a user would type it:
//
//	f := clitest.Shop(t, New)
//	f.Denied["list connpool.dev/connectiontargets"] = true
//	clitest.WantStderr(t, f.Run("status"), 0, "without details of targets")
//
// Trade-off: the fixture remembers no more than the tests need, so it knows nothing
// of validation and status. test/e2e runs the plugin against a real cluster.
package clitest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/road"
	"github.com/connpool/connpool/internal/driver"
)

// Version of the plugin under test.
const Version = "v1.2.3"

// LivePools is where the live API has the pools of the namespace shop.
const LivePools = "/apis/live.connpool.dev/v1alpha1/namespaces/shop/connectionpools"

// Noon is the time of the fixture.
var Noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// MinutesAgo returns a time n minutes before Noon.
func MinutesAgo(n int) *metav1.Time {
	at := metav1.NewTime(Noon.Add(-time.Duration(n) * time.Minute))
	return &at
}

// RemoteFunc is the other end of a command: it runs on the target, and returns how
// the stream ends.
type RemoteFunc = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status

// Fixture is a cluster with connpool, and the plugin.
type Fixture struct {
	// Root makes the command tree of the plugin.
	Root func(*plugin.Factory) *cobra.Command
	// Now is the time for the plugin. It stands still at Noon unless a test replaces
	// it.
	Now func() time.Time
	// URL of the cluster.
	URL string

	Pools       []v1alpha1.ConnectionPool
	Targets     []v1alpha1.ConnectionTarget
	Connections []livev1alpha1.Connection
	// Counts are what the live API counts. If nil, they follow from Connections.
	Counts   []livev1alpha1.ConnectionCounts
	Sessions []livev1alpha1.Session
	Uses     []livev1alpha1.Use
	// Checks are the results of checks, by target.
	Checks map[string]livev1alpha1.CheckStatus
	// Denied holds each "verb group/resource" that RBAC refuses.
	Denied map[string]bool
	// Expired says that the credentials of the user are not valid any more.
	Expired atomic.Bool
	// Answers holds the answers of paths. They come before anything else.
	Answers map[string]http.HandlerFunc
	// Signals is how the target takes signals, and Routing how a pool has chosen it.
	Signals livev1alpha1.SignalsBy
	Routing string
	// Places are what targets have, by the name of the target. Without an entry, a target
	// cannot be listed.
	Places map[string]livev1alpha1.ListingStatus
	// OnlyContainer is where commands run that name no container; "" for none.
	OnlyContainer string
	// Fleet is how commands on many targets are answered.
	Fleet Fleet
	// Remote runs commands.
	Remote RemoteFunc
	// API is the target's own, behind the proxy.
	API http.Handler

	t *testing.T
	// state guards what Change changes. version counts the changes, and changed is closed
	// by the next one.
	state   sync.RWMutex
	version int
	changed chan struct{}
	watches atomic.Int32 // that are open

	mu sync.Mutex // guards what the server changes: asked and Sessions
	// asked holds the requests, as "METHOD path?query".
	asked []string
}

// New returns an empty cluster, and a plugin with the given commands.
func New(t *testing.T, commands ...func(*plugin.Factory) *cobra.Command) *Fixture {
	t.Helper()
	f := &Fixture{
		t: t, Now: func() time.Time { return Noon },
		version: 1, changed: make(chan struct{}),
		Checks: map[string]livev1alpha1.CheckStatus{}, Denied: map[string]bool{}, Answers: map[string]http.HandlerFunc{},
	}
	f.Root = func(factory *plugin.Factory) *cobra.Command {
		root := factory.NewRoot()
		for _, command := range commands {
			root.AddCommand(command(factory))
		}
		return root
	}
	server := httptest.NewServer(&api{f})
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Result is what a command line left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a command line as `kubectl connpool`, in namespace shop.
func (f *Fixture) Run(arguments ...string) Result {
	f.t.Helper()
	return f.RunWith(nil, arguments...)
}

// RunWith runs a command line with an input.
func (f *Fixture) RunWith(stdin io.Reader, arguments ...string) Result {
	f.t.Helper()
	return f.RunContext(context.Background(), stdin, arguments...)
}

// RunContext runs a command line that the end of ctx interrupts, as Ctrl-C would.
func (f *Fixture) RunContext(ctx context.Context, stdin io.Reader, arguments ...string) Result {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	code := f.Execute(ctx, genericiooptions.IOStreams{In: stdin, Out: &stdout, ErrOut: &stderr}, arguments...)
	return Result{code, stdout.String(), stderr.String()}
}

// Execute runs a command line on streams and returns its exit code.
func (f *Fixture) Execute(ctx context.Context, streams genericiooptions.IOStreams, arguments ...string) int {
	factory := plugin.New("kubectl connpool", Version, streams)
	factory.Cluster.Direct = road.Never
	factory.Now = f.Now
	return factory.Execute(ctx, f.Root(factory), append([]string{"--kubeconfig", f.Kubeconfig()}, arguments...))
}

// Lines are what a command that runs prints.
type Lines struct {
	T *testing.T
	*bufio.Scanner
}

// Next returns the next line. The test fails unless it contains want.
func (l Lines) Next(want string) string {
	l.T.Helper()
	if !l.Scan() || !strings.Contains(l.Text(), want) {
		l.T.Fatalf("printed %q, want a line with %q", l.Text(), want)
	}
	return l.Text()
}

// Start runs a command line until stop, which returns its exit code.
func (f *Fixture) Start(arguments ...string) (printed Lines, stop func() int) {
	f.t.Helper()
	read, write := io.Pipe()
	ctx, cancel := context.WithCancel(f.t.Context())
	code := make(chan int, 1)
	go func() {
		code <- f.Execute(ctx, genericiooptions.IOStreams{Out: write, ErrOut: write}, arguments...)
		_ = write.Close()
	}()
	stop = func() int {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, read) }()
		return <-code
	}
	return Lines{f.t, bufio.NewScanner(read)}, stop
}

// Kubeconfig returns the path of a kubeconfig for the cluster.
func (f *Fixture) Kubeconfig() string {
	path := filepath.Join(f.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it,
		contexts: [{name: it, context: {cluster: it, user: me, namespace: shop}}],
		clusters: [{name: it, cluster: {server: %q}}], users: [{name: me, user: {token: secret}}]}`, f.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// TempDir sets TMPDIR to a directory whose path is short enough for sockets, which
// that of t is not. The test fails if the plugin leaves something behind there.
func TempDir(t *testing.T) {
	t.Helper()
	directory, err := os.MkdirTemp("", "p") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", directory)
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(directory, "connpool-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		_ = os.RemoveAll(directory)
	})
}

// Requests returns the requests so far, as "METHOD path?query".
func (f *Fixture) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// Want compares what a command printed. The first line break of stdout is for the
// eye of the reader.
func Want(t *testing.T, got Result, code int, stdout string) {
	t.Helper()
	if got.Code != code {
		t.Errorf("exit code %d, want %d", got.Code, code)
	}
	if diff := cmp.Diff(strings.TrimPrefix(stdout, "\n"), got.Stdout); diff != "" {
		t.Errorf("stdout (-want +got):\n%s\nstderr: %s", diff, got.Stderr)
	}
}

// WantStderr looks for words on standard error.
func WantStderr(t *testing.T, got Result, code int, words ...string) {
	t.Helper()
	if got.Code != code {
		t.Errorf("exit code %d, want %d", got.Code, code)
	}
	for _, word := range words {
		if !strings.Contains(got.Stderr, word) {
			t.Errorf("stderr lacks %q:\n%s", word, got.Stderr)
		}
	}
}

// Keyboard opens a terminal of 100 columns and 30 rows: what is written to keys is
// read from screen, and the other way round.
func Keyboard(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// In this order: a read of the terminal ends when its keys are gone.
		_ = keys.Close()
		_ = screen.Close()
	})
	if err := pty.Setsize(keys, &pty.Winsize{Cols: 100, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	return keys, screen
}
