package openssh

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func start(t *testing.T, options Options) *Server {
	t.Helper()
	server, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func dial(t *testing.T, server *Server) *ssh.Client {
	t.Helper()
	signer, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", server.Addr, &ssh.ClientConfig{
		User:              server.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(server.HostKey),
		HostKeyAlgorithms: []string{server.HostKey.Type()},
	})
	if err != nil {
		t.Fatalf("dial: %v\n%s", err, server.Log())
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func echo(t *testing.T, client *ssh.Client) {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output("echo hello")
	if err != nil || string(out) != "hello\n" {
		t.Errorf("output %q, error %v", out, err)
	}
}

func TestAServerLogsItsUserInAndRunsCommands(t *testing.T) {
	echo(t, dial(t, start(t, Options{Config: []string{"MaxSessions 3"}})))
}

func TestConnectionsOutliveTheListenerAndTheListenerComesBack(t *testing.T) {
	server := start(t, Options{})
	client := dial(t, server)
	server.StopListener()
	if conn, err := net.Dial("tcp", server.Addr); err == nil {
		t.Errorf("%s still accepts connections", conn.Close())
	}
	echo(t, client)
	if server.Connections() == 0 {
		t.Error("the connection without a listener is not found")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	echo(t, dial(t, server))
}

func TestKilledConnectionsEndAndNewOnesAreServed(t *testing.T) {
	server := start(t, Options{})
	client := dial(t, server)
	server.KillConnections()
	if err := client.Wait(); err == nil {
		t.Error("the connection ended in peace, want an error")
	}
	echo(t, dial(t, server))
}

func TestAFrozenServerAnswersOnceThawed(t *testing.T) {
	server := start(t, Options{})
	client := dial(t, server)
	server.Freeze()
	answered := make(chan error)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case <-answered:
		t.Fatal("a frozen server answered")
	default:
	}
	server.Thaw()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	server := start(t, Options{})
	client := dial(t, server)
	server.Stop()
	server.Stop()
	_ = client.Wait()
	if _, err := os.Stat(server.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestABadConfigurationIsReportedInSSHDsWords(t *testing.T) {
	_, err := Start(t.Context(), Options{Config: []string{"NoSuchKeyword yes"}})
	if err == nil || !strings.Contains(err.Error(), "NoSuchKeyword") {
		t.Errorf("error %v, want sshd's own words", err)
	}
}

// A bash at level 2 or deeper reads no ~/.bashrc, which may take a minute.
func TestACommandsShellIsInsideOfAnother(t *testing.T) {
	session, err := dial(t, start(t, Options{})).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.CombinedOutput(`test "$SHLVL" -ge 2 && echo yes`); err != nil || string(out) != "yes\n" {
		t.Errorf("it prints %q, %v", out, err)
	}
}
