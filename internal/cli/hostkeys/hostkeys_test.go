package hostkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/test/openssh"
	"github.com/connpool/connpool/test/sshserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer returns a signer for a key that was just made.
func signer(t *testing.T, key crypto.PrivateKey, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAScanShowsWhatToCompareAndPrintsWhatToPin(t *testing.T) {
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 3072)
	ecdsaKey, ecdsaErr := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for _, c := range []struct {
		name, kind string
		key        ssh.Signer
	}{
		{"an ed25519 key", "ED25519   256", nil},
		{"an RSA key", "RSA    3072", signer(t, rsaKey, rsaErr)},
		{"an ECDSA key", "ECDSA   384", signer(t, ecdsaKey, ecdsaErr)},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := sshserver.Start(sshserver.Options{HostKey: c.key})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			got := clitest.New(t, New).Run("hostkeys", "deploy@"+server.Addr, "--name", "web-1")
			shown := ssh.FingerprintSHA256(server.HostKey)
			clitest.WantStderr(t, got, 0, c.kind, shown, "This proves nothing yet", "ssh-keygen -lf /etc/ssh/ssh_host_", "SSH-2.0-connpool_test")
			_, port, _ := net.SplitHostPort(server.Addr)
			want := fmt.Sprintf("apiVersion: connpool.dev/v1alpha1\nkind: ConnectionTarget\nmetadata:\n  name: web-1\nspec:\n  ssh:\n"+
				"    credentialsRef:\n      name: web-1-ssh\n    host: 127.0.0.1\n    hostKeys:\n      knownHosts:\n      - %s"+
				"    port: %s\n    user: deploy\n", ssh.MarshalAuthorizedKey(server.HostKey), port)
			var wanted, pinned v1alpha1.ConnectionTarget
			if err := yaml.UnmarshalStrict([]byte(got.Stdout), &pinned); err != nil {
				t.Fatalf("%v:\n%s", err, got.Stdout)
			}
			if err := yaml.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted, pinned); diff != "" || strings.Contains(got.Stdout, "status") {
				t.Errorf("the target (-want +got):\n%s\n%s", diff, got.Stdout)
			}
		})
	}
}

func TestAScanSeesEveryKeyOfOpenSSHAndDoesNotLogIn(t *testing.T) {
	server, err := openssh.Start(t.Context(), openssh.Options{Config: []string{"LogLevel VERBOSE"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	got := clitest.New(t, New).Run("hostkeys", server.Addr, "-o", "json")
	if got.Code != 0 || got.Stderr != "" {
		t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
	}
	var target v1alpha1.ConnectionTarget
	if err := yaml.Unmarshal([]byte(got.Stdout), &target); err != nil {
		t.Fatal(err)
	}
	keys := target.Spec.SSH.HostKeys.KnownHosts
	if len(keys) != 2 || !strings.HasPrefix(keys[0], "ssh-ed25519 ") || !strings.HasPrefix(keys[1], "ecdsa-sha2-") {
		t.Errorf("the pins are %q, want an ed25519 and an ECDSA key", keys)
	}
	if log := server.Log(); strings.Contains(log, "Failed") || strings.Contains(log, "userauth") {
		t.Errorf("the scan tried to log in:\n%s", log)
	}
}

func TestAScanWorksWhereOneHandshakeIsAllowedAtATime(t *testing.T) {
	for _, limit := range []string{"PerSourceMaxStartups 1", "MaxStartups 1:100:1"} {
		t.Run(limit, func(t *testing.T) {
			server, err := openssh.Start(t.Context(), openssh.Options{Config: []string{limit}})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			for range 4 {
				got := clitest.New(t, New).Run("hostkeys", server.Addr, "-o", "json", "--timeout", "30s")
				if got.Code != 0 || strings.Count(got.Stdout, "AAAA") < 2 {
					t.Fatalf("exit code %d: %s%s", got.Code, got.Stderr, got.Stdout)
				}
			}
		})
	}
}

func TestAUserMayHaveARealm(t *testing.T) {
	server, err := sshserver.Start(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got := clitest.New(t, New).Run("hostkeys", "deploy@corp.example@"+server.Addr, "--name", "x", "-o", "json")
	if got.Code != 0 || !strings.Contains(got.Stdout, `"deploy@corp.example"`) {
		t.Errorf("exit code %d: %s%s", got.Code, got.Stderr, got.Stdout)
	}
}

func TestAScanThatFailsSaysWhy(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct {
		name, host, want string
	}{
		{"nothing listens", closed.Addr().String(), "connection refused"},
		{"the server is silent", silent.Addr().String(), "did not answer in time"},
		{"it is no SSH server", other.Addr().String(), `does not speak SSH, but said "HTTP/1.1 400 Bad Request"`},
		{"half of a bracket", "[::1", "only one of two brackets"},
		{"the other half", "::1]:22", "only one of two brackets"},
		{"a port that is not one", "host:0", "not a valid port (1-65535)"},
		{"a Docker engine", "tcp://build-1:2376", "ca.crt in its tlsRef"},
		{"a cluster", "https://10.0.0.1:6443", "kubeconfig"},
		{"an option", "host:22:22:", "not a valid host name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clitest.WantStderr(t, clitest.New(t, New).Run("hostkeys", c.host, "--timeout", "200ms", "--name", "x"), 1, c.want)
		})
	}
}
