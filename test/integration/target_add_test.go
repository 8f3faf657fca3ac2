package integration

import (
	"bytes"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/openssh"
)

// user is a person with the plugin, in a namespace.
type user struct {
	t          *testing.T
	namespace  string
	kubeconfig string
}

func newUser(t *testing.T, namespace string, config *rest.Config) *user {
	t.Helper()
	text, err := controlplane.Kubeconfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &user{t, namespace, writeFile(t, "kubeconfig", text)}
}

func writeFile(t *testing.T, name string, text []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// types runs a command line. The test fails unless it ends with the code and says all
// the words, in any order.
func (u *user) types(line string, code int, words ...string) {
	u.t.Helper()
	var printed bytes.Buffer
	args := append([]string{"kubectl-connpool", "--kubeconfig", u.kubeconfig, "-n", u.namespace}, strings.Fields(line)...)
	got := cli.Main(args, "test", genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &printed, ErrOut: &printed})
	if got != code {
		u.t.Errorf("%s: exit code %d, want %d:\n%s", line, got, code, printed.String())
	}
	for _, word := range words {
		if !strings.Contains(printed.String(), word) {
			u.t.Errorf("%s: lacks %q:\n%s", line, word, printed.String())
		}
	}
	if strings.Contains(printed.String(), "PRIVATE KEY") {
		u.t.Errorf("%s: printed a private key", line)
	}
}

// ownHost is a host, the file of its key, and the beginning of a line that adds it.
func ownHost(t *testing.T, server *openssh.Server) (add, identity string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	identity = writeFile(t, "key", server.PrivateKey)
	return "target add " + server.User + "@" + server.Addr + " --yes", " --identity " + identity
}

func TestAHostIsAddedInOneStepAndAddedAgainWithoutAChange(t *testing.T) {
	server := startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, identity := ownHost(t, server)
	u.types(add+identity+" --name own", 0,
		"secret/own-ssh created", "connectiontarget/own created", "connectionpool/own created",
		"own is ready", "kubectl connpool -n "+u.namespace+" exec own -- uptime")
	u.types("exec own -- echo it-works", 0, "it-works")
	var secret corev1.Secret
	if err := env.client.Get(t.Context(), types.NamespacedName{Namespace: u.namespace, Name: "own-ssh"}, &secret); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret.Data[corev1.SSHAuthPrivateKey], server.PrivateKey) || secret.Annotations[v1alpha1.HostsAnnotation] != "127.0.0.1" {
		t.Errorf("the Secret has other content, or goes to other hosts: %v", secret.Annotations)
	}
	u.types(add+identity+" --name own", 0, "secret/own-ssh unchanged", "connectiontarget/own unchanged", "connectionpool/own unchanged")

	const differs = " --name own --labels tier=front"
	u.types(add+identity+differs, 1, `connectiontarget/own metadata.labels.tier is absent, not "front"`, "--replace")
	u.types(add+identity+differs+" --replace", 0, "connectiontarget/own configured", "own is ready")
}

func TestHostsJoinThePoolThatIsNamed(t *testing.T) {
	server := startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, identity := ownHost(t, server)
	u.types(add+identity+" --name n1 --pool many", 0, "connectionpool/many created", "exec many/n1 -- uptime")
	u.types(add+" --secret n1-ssh --name n2 --pool many", 0, "connectionpool/many unchanged", "connectiontarget/n2 created")
	u.types("exec many/n2 -- echo it-works", 0, "it-works")
	u.types(add+identity+" --name n3", 0)
	u.types(add+identity+" --name n4 --pool n3", 1, "pool n3 is for target n3 alone")
	u.types("exec n4 -- true", 254)
}

func TestAHostThatRefusesTheKeyIsNamedWithTheNextStep(t *testing.T) {
	server, other := startSSHD(t), startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, _ := ownHost(t, server)
	wrong := writeFile(t, "wrong", other.PrivateKey)
	u.types(add+" --name own --identity "+wrong, 1, "AuthenticationFailed", "refused the key",
		"ssh-copy-id -i "+wrong, "kubectl delete --namespace "+u.namespace+" secret/own-ssh connectionpool/own connectiontarget/own")
}

func TestAHostBehindAJumpHostIsSeenThroughIt(t *testing.T) {
	bastion, server := startSSHD(t, "LogLevel DEBUG1"), startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, identity := ownHost(t, bastion)
	u.types(add+identity+" --name bastion", 0, "bastion is ready")
	add, identity = ownHost(t, server)
	_, port, _ := net.SplitHostPort(server.Addr)
	u.types(add+identity+" --name inner --jump bastio", 1, "Did you mean bastion?")
	u.types(add+identity+" --name inner --jump bastion --dry-run=server", 0, "connectiontarget/inner created (server dry run)", "SHA256:")
	if !strings.Contains(bastion.Log(), "target 127.0.0.1 port "+port) {
		t.Errorf("the scan did not pass the jump host:\n%s", bastion.Log())
	}
	u.types("check inner", 1, `"inner" not found`)
	u.types(add+identity+" --name inner --jump bastion", 0, "inner is ready")
	u.types("exec inner -- echo it-works", 0, "it-works")
}

func TestAUserWithoutRightsIsToldWhichRoleIsMissing(t *testing.T) {
	server := startSSHD(t)
	space := namespace(t)
	config, err := env.plane.User("newcomer")
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, space, config)
	add, identity := ownHost(t, server)
	u.types(add+identity+" --name own", 1, `cannot get resource "connectiontargets"`,
		`resources: ["connectionpools"]`, `resources: ["secrets"]`, "verbs: [get, create, patch]")
}

func TestAHostThatShowsAnotherKeyThanItsTargetPinsIsRefused(t *testing.T) {
	server := startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, identity := ownHost(t, server)
	u.types(add+identity+" --name own", 0, "own is ready")
	server.Stop()
	impostor, err := openssh.Start(t.Context(), openssh.Options{Address: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(impostor.Stop)
	u.types(add+identity+" --name own --replace", 1, "THE HOST KEY HAS CHANGED", "known from the target own")
}

// typesAtTerminal runs a line at a terminal at which a person types the keys.
func (u *user) typesAtTerminal(line, keys string) (code int, shown string) {
	u.t.Helper()
	keyboard, screen, err := pty.Open()
	if err != nil {
		u.t.Fatal(err)
	}
	defer keyboard.Close() //nolint:errcheck // nothing is kept in it
	defer screen.Close()   //nolint:errcheck // nothing is kept in it
	if _, err := keyboard.WriteString(keys); err != nil {
		u.t.Fatal(err)
	}
	var printed bytes.Buffer
	args := append([]string{"kubectl-connpool", "--kubeconfig", u.kubeconfig, "-n", u.namespace}, strings.Fields(line)...)
	code = cli.Main(args, "test", genericiooptions.IOStreams{In: screen, Out: &printed, ErrOut: &printed})
	return code, printed.String()
}

func TestAPersonAtATerminalDecidesAboutHostKeyAndPassphrase(t *testing.T) {
	server := startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	add, _ := ownHost(t, server)
	key, err := ssh.ParseRawPrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("open"))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Replace(add, "--yes", "--name own --identity "+writeFile(t, "sealed", pem.EncodeToMemory(sealed)), 1)
	code, shown := u.typesAtTerminal(line, "open\nno\n")
	if code != 1 || !strings.Contains(shown, "nothing was changed") || !strings.Contains(shown, "SHA256:") || strings.Contains(shown, "open\n") {
		t.Errorf("after no: exit code %d:\n%s", code, shown)
	}
	u.types("exec own -- true", 254)
	code, shown = u.typesAtTerminal(line, "wrong\nopen\nyes\n")
	if code != 0 || !strings.Contains(shown, "own is ready") {
		t.Errorf("after yes: exit code %d:\n%s", code, shown)
	}
	u.types("exec own -- echo it-works", 0, "it-works")
}
