//go:build !windows

package top

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
)

// viewer reads what a terminal shows.
type viewer struct {
	t    *testing.T
	file *os.File
	seen bytes.Buffer
}

// until reads until the terminal shows a text again.
func (v *viewer) until(text string) string {
	v.t.Helper()
	buffer := make([]byte, 4096)
	for {
		if before, after, ok := strings.Cut(v.seen.String(), text); ok {
			v.seen.Reset()
			v.seen.WriteString(after)
			return before + text
		}
		n, err := v.file.Read(buffer)
		v.seen.Write(buffer[:n])
		if err != nil {
			v.t.Fatalf("waiting for %q: %v; shown: %q", text, err, v.seen.String())
		}
	}
}

func (v *viewer) press(keys string) {
	if _, err := v.file.WriteString(keys); err != nil {
		v.t.Error(err)
	}
}

// counting serves connections whose uses grow with each request.
func counting(f *clitest.Fixture) {
	looks := make(chan int64, 1)
	looks <- 0
	f.Answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = func(out http.ResponseWriter, _ *http.Request) {
		n := <-looks
		looks <- n + 1
		_ = json.NewEncoder(out).Encode(livev1alpha1.ConnectionList{Items: []livev1alpha1.Connection{
			connectionOf("a", "web", 0, 5*n, 0, 50), connectionOf("b", "web", 1, 500*n, 200, 5),
		}})
	}
}

func TestTopFollowsKeysAndSizesAndLeavesTheTerminalAsItWas(t *testing.T) {
	for _, c := range []struct {
		name string
		quit func(v *viewer, cancel context.CancelFunc)
	}{
		{"when the user quits", func(v *viewer, _ context.CancelFunc) { v.press("q") }},
		{"when Ctrl-C is typed", func(v *viewer, _ context.CancelFunc) { v.press("\x03") }},
		{"when it is told to end", func(_ *viewer, cancel context.CancelFunc) { cancel() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, screen := clitest.Keyboard(t)
			before, err := term.GetState(int(screen.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			f := clitest.Shop(t, New)
			counting(f)
			f.Now = time.Now
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			code := make(chan int, 1)
			go func() {
				streams := genericiooptions.IOStreams{In: screen, Out: screen, ErrOut: screen}
				code <- f.Execute(ctx, streams, "top", "--interval", "100ms", "--sort", "n")
			}()

			v := &viewer{t: t, file: keys}
			v.until(enterPage)
			if shown := v.until("q quit"); strings.Index(shown, "\r\na ") > strings.Index(shown, "\r\nb ") {
				t.Errorf("not sorted by name: %q", shown)
			}
			v.until(" uses/s") // a second sample
			v.press("u")
			v.until("\x1b[K\r\nb ")
			v.until("\x1b[K\r\na ")
			v.press("p")
			v.until("CONNECTIONS")
			if err := pty.Setsize(keys, &pty.Winsize{Cols: 20, Rows: 10}); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGWINCH)
			v.until(keyHelp[:20] + clearLine)
			c.quit(v, cancel)
			v.until(leavePage)
			if got := <-code; got != 0 {
				t.Errorf("exit code %d", got)
			}
			after, err := term.GetState(int(screen.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
				t.Errorf("the terminal is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}
