package target

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/cli/terminal"
	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

// identity is a private key that logs in.
type identity struct {
	file        string
	fingerprint string
	// personal says that the user has not named it.
	personal   bool
	text       []byte
	passphrase string
}

// defaultIdentities are the files that ssh tries, the best first.
var defaultIdentities = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}

// maxTries is how often a passphrase is asked for.
const maxTries = 3

// readIdentity returns the private key to put into a Secret; nil if a Secret is named.
func (o *addOptions) readIdentity(ctx context.Context) (*identity, error) {
	if o.secret != "" {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	key := &identity{file: o.identity}
	if key.file == "" {
		var err error
		if key.file, err = defaultIdentity(); err != nil {
			return nil, err
		}
		key.personal = true
	}
	if key.personal && o.dryRun != dryRunClient && !terminal.Is(o.In) {
		return nil, exit.Hint(errors.New("no private key was named, and there is no terminal to ask whether to use yours"),
			"Name a key with --identity FILE, such as your own, %s, or an existing Secret with --secret NAME.", key.file)
	}
	return key, key.read(ctx, o)
}

func defaultIdentity() (string, error) {
	for _, file := range defaultIdentities {
		file = sshhost.ExpandHome(file)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", exit.Hint(errors.New("there is no private key in ~/.ssh"),
		"Make one, put its public half on the host, and name it:\n\n"+
			"  ssh-keygen -t ed25519 -N '' -C connpool -f connpool-key\n"+
			"  ssh-copy-id -i connpool-key.pub USER@HOST\n"+
			"  ... --identity connpool-key\n\n"+
			"A key in an ssh agent cannot be used: the operator also logs in when you are away.")
}

// read reads the key, and asks for its passphrase if it has one.
func (k *identity) read(ctx context.Context, o *addOptions) error {
	text, public, err := sshhost.ReadPrivateKey(k.file, "")
	for try := 0; needsPassphrase(err, try); try++ {
		if o.dryRun == dryRunClient {
			k.passphrase = "unknown" // it is not stored
			return nil
		}
		k.passphrase, err = terminal.ReadHidden(ctx, o.In, o.ErrOut, "Passphrase of "+k.file+", to be stored in the Secret")
		if errors.Is(err, terminal.ErrNoTerminal) {
			return exit.Hint(fmt.Errorf("%s is encrypted, and there is no terminal to ask for its passphrase", k.file),
				"Run this at a terminal, or make the Secret yourself and name it with --secret:\n\n%s",
				k.howToMake(o.target.Secret, o.Namespace, o.target.Host))
		}
		if err != nil {
			return err
		}
		text, public, err = sshhost.ReadPrivateKey(k.file, k.passphrase)
	}
	if err != nil {
		return err
	}
	k.text, k.fingerprint = text, ssh.FingerprintSHA256(public)
	return nil
}

func needsPassphrase(err error, tries int) bool {
	return errors.Is(err, sshkey.ErrEncrypted) || errors.Is(err, sshkey.ErrPassphrase) && tries < maxTries
}

// secretType is the type that kubectl gives to Secrets with a private key.
const secretType = "kubernetes.io/ssh-auth"

// secret returns the Secret with the key. Its annotation lets the key go to the hosts only.
// It is unstructured, because the types of Kubernetes' own objects would add a fifth to
// the size of the plugin.
func (k *identity) secret(name, namespace string, hosts []string) *unstructured.Unstructured {
	data := map[string]any{"ssh-privatekey": base64.StdEncoding.EncodeToString(k.text)}
	if k.passphrase != "" {
		data["passphrase"] = base64.StdEncoding.EncodeToString([]byte(k.passphrase))
	}
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": secretType, "data": data,
	}}
	secret.SetName(name)
	secret.SetNamespace(namespace)
	secret.SetLabels(map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue})
	secret.SetAnnotations(map[string]string{v1alpha1.HostsAnnotation: strings.Join(hosts, ",")})
	return secret
}

// howToMake returns the commands that make the Secret by hand.
func (k *identity) howToMake(name, namespace, host string) string {
	in, passphrase := "", ""
	if namespace != "" {
		in = " --namespace " + namespace
	}
	if k.passphrase != "" || k.text == nil {
		passphrase = " --from-file=passphrase=FILE"
	}
	return fmt.Sprintf("  kubectl create secret generic %s%s --type=%s --from-file=%s%s\n"+
		"  kubectl label secret %s%s %s=%s\n"+
		"  kubectl annotate secret %s%s %s=%s",
		name, in, secretType, sshhost.Typed("ssh-privatekey="+k.file), passphrase,
		name, in, v1alpha1.CredentialsLabel, v1alpha1.CredentialsLabelValue,
		name, in, v1alpha1.HostsAnnotation, host)
}

// describe says which key goes into the Secret.
func (k *identity) describe() string {
	what := "the private key " + k.file
	if k.personal {
		what = "YOUR OWN private key " + k.file
	}
	if k.passphrase != "" {
		what += " and its passphrase"
	}
	return what + " (" + k.fingerprint + "): everyone who may read Secrets there can read it"
}
