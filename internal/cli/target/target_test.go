package target

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/test/sshserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is an SSH server, and a home without keys and known hosts.
func host(t *testing.T) *sshserver.Server {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	server, err := sshserver.Start(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// writeKey writes a private key, encrypted unless the passphrase is empty.
func writeKey(t *testing.T, passphrase string) (file string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "id", string(pem.EncodeToMemory(block)))
}

func write(t *testing.T, name, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestADryRunAsksNoClusterAndPrintsNoPrivateKey(t *testing.T) {
	server, key := host(t), writeKey(t, "")
	f := clitest.New(t, New)
	got := f.Run("target", "add", "deploy@"+server.Addr, "--name", "web-1", "--pool", "web", "--identity", key, "--dry-run", "-o", "yaml")
	clitest.WantStderr(t, got, 0, ssh.FingerprintSHA256(server.HostKey), "kubectl create secret generic web-1-ssh",
		"--from-file=ssh-privatekey="+key, "connpool.dev/credentials=true")
	var target v1alpha1.ConnectionTarget
	var pool v1alpha1.ConnectionPool
	first, second, _ := strings.Cut(got.Stdout, "---\n")
	if err := yaml.UnmarshalStrict([]byte(first), &target); err != nil {
		t.Fatalf("%v:\n%s", err, got.Stdout)
	}
	if err := yaml.UnmarshalStrict([]byte(second), &pool); err != nil {
		t.Fatalf("%v:\n%s", err, got.Stdout)
	}
	selects, err := pool.Selector()
	if err != nil || !selects(&target) || target.Spec.SSH.HostKeys.KnownHosts[0] != sshhost.Pin(server.HostKey) {
		t.Errorf("the pool does not select the target, or the key is not pinned (%v):\n%s", err, got.Stdout)
	}
	if asked := f.Requests(); len(asked) > 0 || strings.Contains(got.Stdout+got.Stderr, "PRIVATE KEY") {
		t.Errorf("asked the cluster %q, and printed\n%s%s", asked, got.Stdout, got.Stderr)
	}
}

func TestNothingIsMadeUntilTheHostKeyIsTrusted(t *testing.T) {
	server, key := host(t), writeKey(t, "")
	stranger, err := sshserver.Start(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, port, _ := net.SplitHostPort(server.Addr)
	changed := write(t, "known_hosts", "[127.0.0.1]:"+port+" "+sshhost.Pin(stranger.HostKey))
	for name, test := range map[string]struct {
		flags []string
		says  string
	}{
		"a changed key": {[]string{"--known-hosts", changed}, "THE HOST KEY HAS CHANGED"},
		"a changed key, although all is answered with yes": {[]string{"--known-hosts", changed, "--yes"}, "THE HOST KEY HAS CHANGED"},
		"another fingerprint":                              {[]string{"--host-key-fingerprint", "SHA256:other"}, ssh.FingerprintSHA256(server.HostKey)},
		"no line about the host":                           {[]string{"--known-hosts", write(t, "empty", "# nothing\n")}, "has no key of 127.0.0.1"},
		"no file":                                          {[]string{"--known-hosts", "/nonexistent"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := clitest.New(t, New)
			words := append([]string{"target", "add", "deploy@" + server.Addr, "--name", "web-1", "--identity", key}, test.flags...)
			clitest.WantStderr(t, f.Run(words...), 1, test.says)
			for _, request := range f.Requests() {
				if !strings.HasPrefix(request, "GET ") {
					t.Errorf("asked for %s", request)
				}
			}
		})
	}
}

func TestPrivateKeysThatCannotBeUsedAreNamed(t *testing.T) {
	server := host(t)
	for name, test := range map[string]struct {
		file string
		says string
	}{
		"a public key":               {write(t, "id.pub", "ssh-ed25519 AAAA"), "is a public key"},
		"PuTTY's format":             {write(t, "id.ppk", "PuTTY-User-Key-File-3: ssh-ed25519"), "puttygen"},
		"no key":                     {write(t, "notes", "hello"), "is not a private key"},
		"an empty file":              {write(t, "none", ""), "has 0 bytes"},
		"no file":                    {"/nonexistent", "no such file"},
		"encrypted, and no terminal": {writeKey(t, "pass"), "no terminal to ask for its passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			got := clitest.New(t, New).Run("target", "add", "deploy@"+server.Addr, "--name", "web-1", "--identity", test.file, "--yes")
			clitest.WantStderr(t, got, 1, test.says)
		})
	}
}

func TestAPersonalKeyIsNotTakenWithoutAQuestion(t *testing.T) {
	server := host(t)
	home := os.Getenv("HOME")
	got := clitest.New(t, New).Run("target", "add", "deploy@"+server.Addr, "--name", "web-1", "--yes")
	clitest.WantStderr(t, got, 1, "no private key in ~/.ssh", "ssh-keygen")
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(writeKey(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "id_ed25519"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	f := clitest.New(t, New)
	got = f.RunWith(&bytes.Buffer{}, "target", "add", "deploy@"+server.Addr, "--name", "web-1", "--yes")
	clitest.WantStderr(t, got, 1, "--identity FILE, such as your own, "+home+"/.ssh/id_ed25519")
	if asked := f.Requests(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

func TestAFailureIsToldOnceItHasLasted(t *testing.T) {
	ready := func(status, reason string, generation int64) *v1alpha1.ConnectionTarget {
		target := &v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
		target.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionStatus(status), Reason: reason, ObservedGeneration: generation},
			{Type: v1alpha1.ConditionReachable, Status: map[bool]metav1.ConditionStatus{true: "False", false: "Unknown"}[reason == "Unreachable"]},
		}
		return target
	}
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	var told string
	w := waiting{settle: 3 * time.Second, say: func(line string) { told = line }}
	for i, look := range []struct {
		target *v1alpha1.ConnectionTarget
		at     int
		over   bool
	}{
		{&v1alpha1.ConnectionTarget{}, 0, false},
		{ready("True", "Warm", 1), 1, false}, // of the spec before
		{ready("False", "Unreachable", 2), 2, false},
		{ready("False", "Warming", 2), 4, false},
		{ready("False", "Unreachable", 2), 6, false},
		{ready("False", "Unreachable", 2), 8, false},
		{ready("False", "Unreachable", 2), 9, true},
		{ready("True", "Warm", 2), 10, true},
	} {
		if over := w.look(look.target, at(look.at)); over != look.over {
			t.Errorf("look %d: the wait is over: %t", i, over)
		}
	}
	p := &plan{addOptions: &addOptions{Factory: &plugin.Factory{Cluster: cluster.New("", "", nil)}}}
	last := &metav1.Condition{Reason: "Unreachable", Message: "nothing listens"}
	if err := p.end(last, inWords(last)); !strings.HasPrefix(err.Error(), "target  is not ready: Unreachable") || strings.Contains(err.Error(), last.Message) {
		t.Errorf("what was told before is said again: %v", err)
	}
	if err := p.end(last, told); !strings.Contains(err.Error(), last.Message) {
		t.Errorf("what was not told is not said: %v", err)
	}
}
