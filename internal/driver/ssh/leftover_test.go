package ssh

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/openssh"
)

// startAsUser starts sshd for a user whose processes it signals, which are not those
// of root.
func startAsUser(t *testing.T) driver.Endpoint {
	t.Helper()
	options := openssh.Options{Dir: t.TempDir()}
	if os.Geteuid() == 0 {
		options.User, options.Dir = newUser(t, "/bin/sh"), dirForUser(t)
	}
	server, err := openssh.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return endpointOf(server.Addr, server.User, server.KnownHosts, server.PrivateKey)
}

// newUser makes a user of this test alone, who goes with it. It needs root.
func newUser(t *testing.T, shell string) string {
	t.Helper()
	name := fmt.Sprintf("connpool-%d-%d", os.Getpid(), users.Add(1))
	remove, err := openssh.CreateUserWithShell(name, shell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	return name
}

var users atomic.Int64

// dirForUser returns a folder below which another user can find files. Those of
// t.TempDir are for its owner only.
func dirForUser(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "connpool-sshd-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// canceled cancels a command once it has written something, and returns its error.
func canceled(t *testing.T, conn *conn, line string) *driver.Error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wrote := make(chan struct{}, 100)
	go func() {
		<-wrote
		cancel()
	}()
	_, err := conn.Exec(ctx, driver.Command{Argv: []string{"sh", "-c", line}}, driver.Streams{Stdout: tell(wrote)})
	return wantError(t, err, driver.Timeout, driver.StageRun)
}

func TestWhatIsSaidOfACanceledCommandIsTrue(t *testing.T) {
	hold := filepath.Join(dirForUser(t), "hold")
	if err := os.WriteFile(hold, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(hold) })
	wait := fmt.Sprintf("while [ -e %s ]; do sleep 0.1; done", hold)
	const (
		ended       = "it was signaled, and has ended"
		others      = "others that it started may still run"
		unconfirmed = "the server did not confirm that the command ended; it may still run"
	)
	current := func(config ...string) func(*testing.T) driver.Endpoint {
		return func(t *testing.T) driver.Endpoint {
			_, endpoint := startOpenSSH(t, config...)
			return endpoint
		}
	}
	tests := map[string]struct {
		endpoint func(*testing.T) driver.Endpoint
		line     string
		says     string
		leftover bool
	}{
		"a command of a user":                       {startAsUser, "echo; exec sleep 60", ended, false},
		"a command that ignores TERM":               {startAsUser, "trap : TERM; echo; " + wait, others, false},
		"a command with a child in its own session": {startAsUser, "setsid -w sh -c 'echo; " + wait + "'; true", others, false},
		"a command under timeout":                   {startAsUser, "timeout 900 sh -c 'echo; " + wait + "'; true", others, false},
		"a forced command":                          {current(`ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"`), "echo; " + wait, unconfirmed, true},
	}
	if os.Geteuid() == 0 {
		root := tests["a forced command"]
		root.endpoint = current()
		tests["a command of root"] = root
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			conn := mustDial(t, Options{KillGrace: 300 * time.Millisecond}, tc.endpoint(t))
			err := canceled(t, conn, tc.line)
			if !strings.HasSuffix(err.Message, tc.says) || (err.Leftover != nil) != tc.leftover {
				t.Errorf("%q with leftover %t, want %q and %t", err.Message, err.Leftover != nil, tc.says, tc.leftover)
			}
			if err.Leftover == nil {
				return
			}
			select {
			case <-err.Leftover:
				t.Error("the leftover counts as ended although it runs")
			default:
			}
			_ = os.Remove(hold)
			select {
			case <-err.Leftover:
			case <-time.After(patience):
				t.Error("the leftover has ended, and still counts")
			}
			_ = os.WriteFile(hold, nil, 0o644)
		})
	}
}
