package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/netfault"
)

// stream runs a command line by one of client-go's executors.
type stream func(ctx context.Context, config *rest.Config, f fixture, shell string, streams remotecommand.StreamOptions) error

func webSocket(ctx context.Context, config *rest.Config, f fixture, shell string, streams remotecommand.StreamOptions) error {
	e, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, streamURL(config, f, shell, streams).String())
	if err != nil {
		return err
	}
	return e.StreamWithContext(ctx, streams)
}

func spdy(ctx context.Context, config *rest.Config, f fixture, shell string, streams remotecommand.StreamOptions) error {
	e, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, streamURL(config, f, shell, streams))
	if err != nil {
		return err
	}
	return e.StreamWithContext(ctx, streams)
}

// jsonForm runs the command line by the JSON form, which is not a stream but ends like
// one.
func jsonForm(ctx context.Context, config *rest.Config, f fixture, shell string, _ remotecommand.StreamOptions) error {
	_, exec, err := post(ctx, config, f, live.ExecSpec{Shell: shell})
	if err == nil && exec.Status.Outcome != live.OutcomeCompleted {
		err = errors.New(exec.Status.Message)
	}
	return err
}

func streamURL(config *rest.Config, f fixture, shell string, streams remotecommand.StreamOptions) *url.URL {
	query := url.Values{"shell": {shell}}
	if streams.Stdin != nil {
		query.Set("stdin", "true")
	}
	if streams.Stdout != nil {
		query.Set("stdout", "true")
	}
	address, err := url.Parse(execURL(config, f) + "?" + query.Encode())
	if err != nil {
		panic(err) // the host of a configuration is a URL
	}
	return address
}

var stockStreams = map[string]stream{"WebSocket": webSocket, "SPDY": spdy}

const mebibyte = 1 << 20

// liveHeap returns how many bytes are in use by client and operator, which share the
// process.
func liveHeap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// undisturbed checks that commands run quickly beside a stream that is stuck.
func undisturbed(t *testing.T, config *rest.Config, f fixture) {
	t.Helper()
	for range 20 {
		began := time.Now()
		code, exec, err := post(t.Context(), config, f, live.ExecSpec{Shell: "echo still here"})
		if err != nil || code != http.StatusOK || exec.Status.Stdout != "still here\n" {
			t.Fatalf("another command on the connection: %d, %+v, %v", code, exec.Status, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("another command on the connection took %s", took)
		}
	}
}

// stuckReader stops reading after a mebibyte until letGo is closed.
type stuckReader struct {
	stuck, letGo chan struct{}
	n            int64
	last         byte
}

// Write implements io.Writer.
func (r *stuckReader) Write(p []byte) (int, error) {
	if before := r.n; before < mebibyte && before+int64(len(p)) >= mebibyte {
		close(r.stuck)
		<-r.letGo
	}
	r.n += int64(len(p))
	r.last = p[len(p)-1]
	return len(p), nil
}

// F21.
func TestAReaderThatStopsHoldsUpItsOwnStreamOnly(t *testing.T) {
	makeSSHUser(t)
	const length = 256 * mebibyte
	for name, run := range stockStreams {
		t.Run(name, func(t *testing.T) {
			f, config := usable(t, size(1, 1)) // so that streams share one connection
			before := liveHeap()
			reader := &stuckReader{stuck: make(chan struct{}), letGo: make(chan struct{})}
			done := make(chan error, 1)
			go func() {
				shell := fmt.Sprintf("head -c %d /dev/zero; echo end", length)
				done <- run(t.Context(), config, f, shell, remotecommand.StreamOptions{Stdout: reader})
			}()
			<-reader.stuck
			undisturbed(t, config, f)
			grown := liveHeap() - before
			t.Logf("%d KiB more in use while the reader is stuck", grown>>10)
			if grown > 8*mebibyte {
				t.Errorf("%d bytes are held for a reader that does not read", grown)
			}
			began := time.Now()
			close(reader.letGo)
			if err := <-done; err != nil || reader.n != length+4 || reader.last != '\n' {
				t.Errorf("the stream ended with %v after %d bytes, want %d", err, reader.n, length+4)
			}
			t.Logf("%d MiB in %s", length/mebibyte, time.Since(began).Round(time.Millisecond))
		})
	}
}

// endless is an input that does not end.
type endless struct{}

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// F21.
func TestInputThatNoCommandReadsHoldsUpItsOwnStreamOnly(t *testing.T) {
	makeSSHUser(t)
	for name, run := range stockStreams {
		t.Run(name, func(t *testing.T) {
			f, config := usable(t, size(1, 1)) // so that streams share one connection
			before := liveHeap()
			release := filepath.Join(f.server.Dir, "release")
			done := make(chan error, 1)
			var output strings.Builder
			go func() {
				shell := fmt.Sprintf("while [ ! -e %s ]; do sleep 0.05; done; echo end", release)
				done <- run(t.Context(), config, f, shell, remotecommand.StreamOptions{
					Stdin: io.LimitReader(endless{}, 64*mebibyte), Stdout: &output,
				})
			}()
			leases(t, 5*time.Second, f, 1)
			undisturbed(t, config, f)
			if grown := liveHeap() - before; grown > 8*mebibyte {
				t.Errorf("%d bytes are held of input that no command reads", grown)
			}
			if err := os.WriteFile(release, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if err != nil || output.String() != "end\n" {
					t.Errorf("the command ended with %v and %q", err, output.String())
				}
			case <-time.After(20 * time.Second):
				t.Error("the command does not end")
			}
		})
	}
}

// vanishing are clients that vanish, each behind a proxy of its own. None of them is a
// silent client of the JSON form: that one has no pings, and the keepalives of the
// kernel, which would notice it, end at the proxy.
var vanishing = map[string]struct {
	run     stream
	proxied bool
	vanish  func(*netfault.Proxy)
}{
	"WebSocket, closed":                            {webSocket, false, (*netfault.Proxy).Reset},
	"WebSocket, silent":                            {webSocket, false, drop},
	"WebSocket through kube-apiserver, closed":     {webSocket, true, (*netfault.Proxy).Reset},
	"WebSocket through kube-apiserver, silent":     {webSocket, true, drop},
	"SPDY, closed":                                 {spdy, false, (*netfault.Proxy).Reset},
	"SPDY, silent":                                 {spdy, false, drop},
	"SPDY through kube-apiserver, silent":          {spdy, true, drop},
	"the JSON form, closed":                        {jsonForm, false, (*netfault.Proxy).Reset},
	"the JSON form through kube-apiserver, closed": {jsonForm, true, (*netfault.Proxy).Reset},
}

func drop(proxy *netfault.Proxy) { proxy.Set(netfault.DropBoth) }

// F22.
func TestWhatAVanishedClientRanIsEnded(t *testing.T) {
	makeSSHUser(t)
	f, direct := usable(t, manySessions)
	clients := map[string]*vanisher{}
	for name, tc := range vanishing {
		config := direct
		if tc.proxied {
			config = proxied(direct)
		}
		clients[name] = startVanisher(t, f, config, tc.run)
	}
	for _, c := range clients {
		awaitMark(t, 20*time.Second, c.marks, "started")
	}
	began := time.Now()
	for name, c := range clients {
		vanishing[name].vanish(c.proxy)
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			awaitMark(t, 20*time.Second-time.Since(began), c.marks, "signaled")
		})
	}
	t.Logf("all signaled after %s", time.Since(began).Round(time.Millisecond))
	leases(t, 20*time.Second-time.Since(began), f, 0)
}

// vanisher is a client that runs a command through a proxy.
type vanisher struct {
	proxy *netfault.Proxy
	marks string
}

func startVanisher(t *testing.T, f fixture, config *rest.Config, run stream) *vanisher {
	t.Helper()
	proxy, err := netfault.Start(strings.TrimPrefix(config.Host, "https://"), netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	behind := rest.CopyConfig(config)
	behind.Host = "https://" + proxy.Addr
	v := &vanisher{proxy: proxy, marks: marksOn(t, f.server)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A client's first ping comes after 5 s. Before that, silence is normal.
		_ = run(context.WithoutCancel(t.Context()), behind, f, "sleep 6; "+trapped(v.marks), remotecommand.StreamOptions{Stdout: io.Discard})
	}()
	t.Cleanup(func() { proxy.Close(); <-ended })
	return v
}

// As `exec -tt` asks for it: a terminal, without input and without a size that changes.
func TestATerminalNeedsNoInput(t *testing.T) {
	f, config := usable(t)
	pools, err := goclient.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, input := range map[string]io.Reader{"no input": nil, "input that ends": strings.NewReader("x\n")} {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			_, err := pools.Pool(f.pool.Namespace, f.pool.Name).Stream(t.Context(),
				goclient.Command{Target: f.target.Name, Argv: []string{"tty"}, Stdin: input},
				goclient.Streams{Stdout: &output, Terminal: &goclient.Terminal{Size: goclient.Size{Columns: 80, Rows: 24}}})
			if err != nil || !strings.Contains(output.String(), "/dev/pts/") {
				t.Errorf("got %q, %v", &output, err)
			}
		})
	}
}
