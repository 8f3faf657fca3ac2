package session_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh"
	"github.com/connpool/connpool/internal/session"
	"github.com/connpool/connpool/test/openssh"
)

// dialSSH starts a real sshd and connects to it.
func dialSSH(t testing.TB, config ...string) (driver.Conn, *openssh.Server) {
	t.Helper()
	server, err := openssh.Start(t.Context(), openssh.Options{Dir: t.TempDir(), Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	dialer, err := ssh.New(ssh.Options{KillGrace: 500 * time.Millisecond}).Prepare(driver.Endpoint{
		Address: server.Addr, User: server.User, KnownHosts: []byte(server.KnownHosts),
		Credentials:       map[string][]byte{"ssh-privatekey": server.PrivateKey},
		Dial:              new(net.Dialer).DialContext,
		KeepaliveInterval: 5 * time.Second, KeepaliveTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialer.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, server
}

func TestOverSSH(t *testing.T) {
	conn, server := dialSSH(t)
	shell := start(t, conn.(driver.Execer), map[string]string{"STAGE": "a b"})
	for _, s := range []step{
		{"cd / && x=1", result{}},
		{`echo "$PWD $x $STAGE"; echo err >&2; (exit 3)`, result{"/ 1 a b\n", "err\n", 3}},
		{"cat", result{}},
		{"head -c 200000 /dev/zero | wc -c", result{Out: "200000\n"}},
	} {
		s.check(t, run(t, shell, s.line))
	}
	var large bytes.Buffer
	words := []string{"printf", "%s", strings.Repeat("it's", 32<<10)}
	if _, err := shell.Run(t.Context(), driver.Command{Argv: words}, &large, nil); err != nil || large.String() != words[2] {
		t.Errorf("128 KiB became %d bytes: %v", large.Len(), err)
	}
	go func() {
		awaitFile(t, server.Dir+"/started")
		server.KillConnections()
	}()
	_, err := shell.Run(t.Context(), driver.Command{Shell: ": >" + server.Dir + "/started; sleep 60"}, nil, nil)
	wantOutcome(t, err, driver.Unknown, driver.Unreachable)
	_, err = shell.Run(t.Context(), driver.Command{Shell: "true"}, nil, nil)
	wantOutcome(t, err, driver.NotStarted, driver.Unreachable)
	<-shell.Done()
}

func BenchmarkCommandOverSSH(b *testing.B) {
	conn, _ := dialSSH(b)
	execer := conn.(driver.Execer)
	shell := start(b, execer, nil)
	command := driver.Command{Argv: []string{"true"}}
	b.Run("in a session", func(b *testing.B) {
		for b.Loop() {
			if _, err := shell.Run(b.Context(), command, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by itself", func(b *testing.B) {
		for b.Loop() {
			if _, err := execer.Exec(b.Context(), command, driver.Streams{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// sshd signals no forced command, as it signals none of root.
func TestASessionWhoseCommandCannotBeEndedLeavesItBehind(t *testing.T) {
	ends := map[string]func(*session.Shell, context.CancelFunc){
		"when its caller leaves": func(_ *session.Shell, leave context.CancelFunc) { leave() },
		"when it is deleted": func(shell *session.Shell, _ context.CancelFunc) {
			shell.End(&driver.Error{Reason: "Deleted", Message: "a user deleted it"})
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			conn, server := dialSSH(t, `ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"`)
			shell := start(t, conn.(driver.Execer), nil)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			go func() {
				awaitFile(t, server.Dir+"/started")
				end(shell, leave)
			}()
			_, err := shell.Run(ctx, driver.Command{Shell: "cd " + server.Dir + "; : >started; while [ -e started ]; do sleep 0.1; done"}, nil, nil)
			if driver.OutcomeOf(err) != driver.Unknown || !strings.Contains(err.Error(), "may still run") {
				t.Error(err)
			}
			leftover := driver.AsError(shell.Failure()).Leftover
			if leftover == nil {
				t.Fatal("nothing tells that the command occupies its channel")
			}
			_ = os.Remove(server.Dir + "/started")
			<-leftover
		})
	}
}
