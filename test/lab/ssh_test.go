package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/test/sshserver"
)

// TestTheEmbeddedServerComesBackAsTheSame is about machines without an sshd.
func TestTheEmbeddedServerComesBackAsTheSame(t *testing.T) {
	server, err := startEmbedded(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	before := server.access()
	server.goAway()
	server.goAway() // once more does nothing
	if connection, err := net.Dial("tcp", before.Addr); err == nil {
		_ = connection.Close()
		t.Error("it accepts connections while it is away")
	}
	for range 2 { // once more does nothing
		if err := server.comeBack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after := server.access(); after != before {
		t.Errorf("it came back as %v, want %v", after, before)
	}
	connection, err := net.Dial("tcp", before.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
}

// TestAKeyThatIsAddedToTheEmbeddedServerLogsIn is what the tutorial does, as with sshd.
func TestAKeyThatIsAddedToTheEmbeddedServerLogsIn(t *testing.T) {
	dir := t.TempDir()
	server, err := newSSHServer(t.Context(), dir, Options{EmbeddedSSH: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(server.access().HostKey)) //nolint:dogsled // the library has five results
	if err != nil {
		t.Fatal(err)
	}
	login := func() error {
		connection, err := ssh.Dial("tcp", server.access().Addr, &ssh.ClientConfig{
			User: "jo", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
		})
		if err == nil {
			_ = connection.Close()
		}
		return err
	}
	if login() == nil {
		t.Error("a key logs in that no file has")
	}
	authorized := append([]byte("# a comment\n"), ssh.MarshalAuthorizedKey(key.PublicKey())...)
	if err := os.WriteFile(filepath.Join(dir, "authorized_keys"), authorized, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := login(); err != nil {
		t.Errorf("the key of the file: %v", err)
	}
}
