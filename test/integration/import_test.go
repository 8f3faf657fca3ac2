package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli"
)

// imports runs import and creates what it prints, with strict validation.
func (u *user) imports(line ...string) {
	u.t.Helper()
	var printed, notes bytes.Buffer
	args := append([]string{"kubectl-connpool", "-n", u.namespace, "import"}, line...)
	if code := cli.Main(args, "test", genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &printed, ErrOut: &notes}); code != 0 {
		u.t.Fatalf("%q: exit code %d: %s", line, code, notes.String())
	}
	for document := range bytes.SplitSeq(printed.Bytes(), []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, object); err != nil {
			u.t.Fatalf("%v:\n%s", err, document)
		}
		if err := env.client.Create(u.t.Context(), object, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
			u.t.Errorf("%v:\n%s", err, document)
		}
	}
}

func TestImportedHostsAreAcceptedAndRunCommands(t *testing.T) {
	bastion, server := startSSHD(t), startSSHD(t)
	u := newUser(t, namespace(t), env.config)
	t.Setenv("HOME", t.TempDir())
	known := writeFile(t, "known_hosts", []byte(bastion.KnownHosts+"\n"+server.KnownHosts+"\n"))
	for _, s := range []struct {
		name string
		key  []byte
	}{{"bastion-key", bastion.PrivateKey}, {"web-key", server.PrivateKey}} {
		create(t, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: s.name, Namespace: u.namespace, Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
			},
			Data: map[string][]byte{corev1.SSHAuthPrivateKey: s.key},
		})
	}
	port := func(address string) string {
		_, port, _ := net.SplitHostPort(address)
		return port
	}
	config := fmt.Sprintf("Host bastion\n Port %s\n IdentityFile /keys/bastion-key\nHost web_1\n Port %s\n IdentityFile /keys/web-key\n ProxyJump bastion\n"+
		"Host *\n HostName 127.0.0.1\n User %s\n", port(bastion.Addr), port(server.Addr), server.User)
	u.imports("ssh-config", writeFile(t, "config", []byte(config)), "--known-hosts", known)
	u.types("target add "+server.User+"@"+server.Addr+" --yes --name web-1 --secret web-key --jump bastion", 0, "connectiontarget/web-1 unchanged", "web-1 is ready")
	u.types("exec web-1 -- echo it-works", 0, "it-works")

	inventory := fmt.Sprintf("[front]\nf[1:2] ansible_host=127.0.0.1 ansible_port=%s ansible_user=%s ansible_ssh_private_key_file=/keys/web-key\n",
		port(server.Addr), server.User)
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(inventory), 0o600); err != nil {
		t.Fatal(err)
	}
	u.imports("ansible-inventory", file, "--known-hosts", known)
	u.types("target add "+server.User+"@"+server.Addr+" --yes --name f2 --secret web-key --pool front", 0, "connectiontarget/f2 unchanged", "f2 is ready")
	u.types("run front --all -- echo it-works", 0, "2 of 2")
}
