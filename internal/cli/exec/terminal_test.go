//go:build !windows

package exec

import (
	"context"
	"io"
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

func TestATerminalIsRawDuringACommandAndRestoredAfterIt(t *testing.T) {
	keys, screen := clitest.Keyboard(t)
	before, err := term.GetState(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "vt220")
	f := clitest.Shop(t, New, NewShell)
	f.Remote = func(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
		if options.Term != "vt220" || !options.TTY || len(options.Command) > 0 {
			t.Errorf("asked for %+v", options)
		}
		if size := <-resize; size.Columns != 100 || size.Rows != 30 {
			t.Errorf("the size is %+v at first", size)
		}
		if err := pty.Setsize(keys, &pty.Winsize{Cols: 120, Rows: 40}); err != nil {
			t.Error(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGWINCH)
		if size := <-resize; size.Columns != 120 || size.Rows != 40 {
			t.Errorf("the size is %+v later", size)
		}
		// Ctrl-C belongs to the remote program, which gets it at once.
		_, _ = keys.Write([]byte{3})
		key := make([]byte, 1)
		if _, err := io.ReadFull(streams.Stdin, key); err != nil || key[0] != 3 {
			t.Errorf("read %v, %v", key, err)
		}
		_, _ = io.WriteString(streams.Stdout, "bye\r\n")
		return clitest.Exits(3, "")
	}
	got := f.RunWith(screen, "exec", "web/web-1", "-it")
	clitest.Want(t, got, 3, "bye\r\n")
	after, err := term.GetState(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("the terminal is not as it was (-before +after):\n%s", diff)
	}
}

func TestATerminalIsRestoredWhenTheCommandIsRefused(t *testing.T) {
	_, screen := clitest.Keyboard(t)
	before, err := term.GetState(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	clitest.WantStderr(t, clitest.Shop(t, New, NewShell).RunWith(screen, "exec", "wep", "-it"), exit.NotStarted, "Did you mean web?")
	after, err := term.GetState(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("the terminal is not as it was (-before +after):\n%s", diff)
	}
}

func TestAShellIsALoginOnAHostAndShElsewhere(t *testing.T) {
	tests := map[string]struct {
		words []string
		want  string
	}{
		"on a host":      {[]string{"web/web-1"}, "web-1[][]\n"},
		"in a container": {[]string{"web", "--container", "app", "--env", "A=b"}, `(//app)["sh"][A=b]` + "\n"},
		"in a pod":       {[]string{"web", "--target", "web-1", "--pod", "w-0"}, `web-1(/w-0/)["sh"][]` + "\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, screen := clitest.Keyboard(t)
			f := clitest.Shop(t, New, NewShell)
			f.Remote = func(ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
				if !options.TTY || !options.Stdin {
					t.Errorf("asked for %+v", options)
				}
				streams.Stdin = nil

				streams.Stderr = io.Discard
				return echo(ctx, options, streams, resize)
			}
			clitest.Want(t, f.RunWith(screen, append([]string{"shell"}, test.words...)...), 0, test.want)
		})
	}
}
