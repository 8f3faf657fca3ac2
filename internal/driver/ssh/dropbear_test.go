package ssh

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// startDropbear starts a dropbear for a user that it makes: dropbear looks for the
// keys of a user in the user's home only.
func startDropbear(t *testing.T) driver.Endpoint {
	t.Helper()
	name := newUser(t, "/bin/sh")
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, private := newKey(t)
	must(t, "install", "-d", "-m", "700", "-o", name, filepath.Join(account.HomeDir, ".ssh"))
	if err := os.WriteFile(filepath.Join(account.HomeDir, ".ssh", "authorized_keys"), ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
		t.Fatal(err)
	}
	hostKey := filepath.Join(t.TempDir(), "host_key")
	must(t, "dropbearkey", "-t", "ed25519", "-f", hostKey)
	public := must(t, "dropbearkey", "-y", "-f", hostKey)
	public = strings.Split(public, "\n")[1] // between lines of words
	address := serveDropbear(t, hostKey)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return endpointOf(address, name, "[127.0.0.1]:"+port+" "+public, private)
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s (hack/install-test-deps.sh installs what tests need): %v: %s", name, err, out)
	}
	return string(out)
}

// serveDropbear returns the address once the server greets.
func serveDropbear(t *testing.T, hostKey string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	server := exec.Command("dropbear", "-F", "-E", "-s", "-m", "-r", hostKey, "-p", address, "-P", hostKey+".pid")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if strings.HasPrefix(line, "SSH-") {
			return address
		}
	}
	t.Fatal("dropbear does not greet")
	return ""
}

// Whenever a command ends, dropbear closes the sessions on which none was started.
func TestCommandsOneAfterAnotherAllRunOnDropbear(t *testing.T) {
	if os.Geteuid() == 0 { // only root can make a user with keys
		conn := mustDial(t, Options{}, startDropbear(t))
		for range 200 {
			mustRun(t, conn)
		}
	}
	inEnv(t, func(t *testing.T, w *env) {
		config := w.config()
		config.ServerVersion = "SSH-2.0-dropbear_2022.83"
		w.server = w.handshake(config, serveAsDropbear)
		conn, _, err := w.dial(t)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if _, err := run(conn, "true"); err != nil {
				t.Error(err)
			}
		}
		_ = conn.Close()
	})
}

func serveAsDropbear(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
	var mu sync.Mutex
	waiting := map[ssh.Channel]bool{}
	acceptAll(channels, func(channel ssh.Channel, requests <-chan *ssh.Request) {
		mu.Lock()
		waiting[channel] = true
		mu.Unlock()
		for request := range requests {
			mu.Lock()
			delete(waiting, channel)
			_ = request.Reply(true, nil)
			_, _ = channel.SendRequest("exit-status", false, make([]byte, 4))
			_ = channel.Close()
			for other := range waiting {
				_ = other.Close()
			}
			clear(waiting)
			mu.Unlock()
		}
	})
}
