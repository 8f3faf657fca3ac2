package sshserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, options Options) *Server {
	t.Helper()
	server, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func config(t *testing.T, server *Server, user string, methods ...ssh.AuthMethod) *ssh.ClientConfig {
	t.Helper()
	signer, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(methods) == 0 {
		methods = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	}
	return &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: ssh.FixedHostKey(server.HostKey)}
}

func dial(t *testing.T, server *Server) *ssh.Client {
	t.Helper()
	client, err := ssh.Dial("tcp", server.Addr, config(t, server, "anybody"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = client.Wait()
	})
	return client
}

func open(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommandsRunWithTheirStreamsEnvironmentAndExitCode(t *testing.T) {
	s := open(t, dial(t, start(t, Options{})))
	var stdout, stderr bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader("in"), &stdout, &stderr
	if err := s.Setenv("WORD", "env"); err != nil {
		t.Fatal(err)
	}
	err := s.Run(`cat; echo "-$WORD"; echo error >&2; exit 7`)
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("error %v, want exit code 7", err)
	}
	if stdout.String() != "in-env\n" || stderr.String() != "error\n" {
		t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
	}
}

func TestASignalEndsTheCommandAndIsReported(t *testing.T) {
	s := open(t, dial(t, start(t, Options{})))
	stdout, _ := s.StdoutPipe()
	if err := s.Start("echo started; sleep 60"); err != nil {
		t.Fatal(err)
	}
	_, _ = stdout.Read(make([]byte, 8))
	_ = s.Signal(ssh.SIGTERM)
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("error %v, want signal TERM", err)
	}
}

func TestATerminalHasTheSizeAskedFor(t *testing.T) {
	s := open(t, dial(t, start(t, Options{})))
	if err := s.RequestPty("xterm", 33, 77, nil); err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("stty size; echo $TERM")
	if err != nil || string(out) != "33 77\r\nxterm\r\n" {
		t.Errorf("output %q, error %v", out, err)
	}
}

func TestAHandlerAnswersInProcess(t *testing.T) {
	server := start(t, Options{Handler: func(_ context.Context, command Command) int {
		_, _ = fmt.Fprintf(command.Stdout, "%s runs %s", command.User, command.Line)
		return 3
	}})
	out, err := open(t, dial(t, server)).Output("something")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 3 || string(out) != "anybody runs something" {
		t.Errorf("output %q, error %v", out, err)
	}
}

func TestOnlyTheRightUserWithTheRightSecretGetsIn(t *testing.T) {
	server := start(t, Options{User: "deploy", Password: "right"})
	tests := map[string]struct {
		user, password string
		admitted       bool
	}{
		"the user with the password":          {"deploy", "right", true},
		"the user with another password":      {"deploy", "wrong", false},
		"another user with the password":      {"root", "right", false},
		"another user with another passsword": {"root", "wrong", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			client, err := ssh.Dial("tcp", server.Addr, config(t, server, tc.user, ssh.Password(tc.password)))
			if (err == nil) != tc.admitted {
				t.Errorf("error %v, want admitted: %v", err, tc.admitted)
			}
			if err == nil {
				_ = client.Close()
				_ = client.Wait()
			}
		})
	}
}

func TestSessionsBeyondTheLimitAreRefusedUntilOneEnds(t *testing.T) {
	client := dial(t, start(t, Options{MaxSessions: 1}))
	first := open(t, client)
	var refused *ssh.OpenChannelError
	if _, err := client.NewSession(); !errors.As(err, &refused) {
		t.Errorf("error %v, want a refusal", err)
	}
	if err := first.Run("true"); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsAreForwardedBothWays(t *testing.T) {
	client := dial(t, start(t, Options{}))
	for network, address := range map[string]string{
		"tcp":  "127.0.0.1:0",
		"unix": filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(network, func(t *testing.T) {
			listener, err := client.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			go echoOnce(listener)
			conn, err := client.Dial(network, listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "there and back")
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "there and back" {
				t.Errorf("read %q, error %v", got, err)
			}
			_ = conn.Close()
			_ = listener.Close()
		})
	}
}

func echoOnce(listener net.Listener) {
	conn, err := listener.Accept()
	if err == nil {
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}
}

func TestFilesAreServed(t *testing.T) {
	client, err := sftp.NewClient(dial(t, start(t, Options{})))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := client.Mkdir(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
	_ = client.Close()
}

func TestCloseEndsWhatRuns(t *testing.T) {
	server := start(t, Options{})
	s := open(t, dial(t, server))
	if err := s.Start("sleep 60"); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if err := s.Wait(); err == nil {
		t.Error("the command ended in peace, want an error")
	}
}
