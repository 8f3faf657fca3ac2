// Package hostkeys scans the keys of an SSH host, and prints a ConnectionTarget
// that pins them.
//
// The scan starts at the user's machine and does not pass the operator. It makes
// one handshake for each kind of key, one after the other, and never logs in. The target goes to
// standard output, and what the user must compare to standard error.
//
// Trade-off: a scan alone proves nothing, as with ssh-keyscan, so the output says
// how to verify it before it is committed.
package hostkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

type options struct {
	*plugin.Factory

	host        string
	port        int
	user        string
	targetName  string
	credentials string
	timeout     time.Duration
}

// New returns the command hostkeys.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "hostkeys [USER@]HOST[:PORT]",
		Short: "Scan the keys of a host and print what to pin",
		Long: "Ask a host for its keys, from where you are, and print a ConnectionTarget that pins them.\n\n" +
			"A scan alone proves nothing: an attacker between you and the host answers in its place. Compare the\n" +
			"fingerprints with what the host itself says before you commit. Nothing logs in, and no credential is sent.\n\n" +
			"What is to be reviewed goes to standard error, and the target to standard output.",
		Example: f.Examples(
			"look, compare, then keep", "hostkeys deploy@web-1.example.com > web-1.yaml",
			"another port and name", "hostkeys 10.0.0.5:2222 --name jump --login ops",
			"for a program", "hostkeys web-1.example.com -o json"),
		Args: cobra.ExactArgs(1),
		RunE: f.RunE(o.complete, o.validate, o.run),
	}
	flags := command.Flags()
	flags.StringVar(&o.targetName, "name", "", "Name of the target; made of HOST when absent")
	flags.StringVar(&o.user, "login", "", "User to log in as; the same as USER@; yours when absent")
	flags.StringVar(&o.credentials, "credentials", "", "Name of the Secret to log in with; NAME-ssh when absent")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "How long the host may take to answer")
	f.Output.Register(command, plugin.YAML, plugin.JSON)
	return command
}

func (o *options) complete(_ *cobra.Command, args []string) error {
	asked := strings.TrimPrefix(args[0], "ssh://")
	login, address := "", asked
	if at := strings.LastIndex(asked, "@"); at >= 0 { // a user may have a realm
		login, address = asked[:at], asked[at+1:]
	}
	if strings.Contains(address, "://") {
		return fmt.Errorf("%q is not an SSH host, and only those have keys to pin: "+
			"a Docker engine is known by the ca.crt in its tlsRef, a cluster by that of its kubeconfig", address)
	}
	var err error
	if o.host, o.port, err = splitHost(address); err != nil {
		return err
	}
	o.user = cmp.Or(o.user, login, ourName())
	o.targetName = cmp.Or(o.targetName, nameOf(o.host))
	o.credentials = cmp.Or(o.credentials, o.targetName+"-ssh")
	return nil
}

// splitHost reads HOST[:PORT], with or without the brackets of IPv6.
func splitHost(address string) (string, int, error) {
	if strings.HasPrefix(address, "[") != strings.Contains(address, "]") {
		return "", 0, fmt.Errorf("%q has one bracket of two: write [ADDRESS]:PORT", address)
	}
	host, port := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), "22"
	if strings.Contains(address, "]:") || strings.Count(address, ":") == 1 {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", 0, fmt.Errorf("%q is neither HOST nor HOST:PORT", address)
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("%q is not a valid port (1-65535)", port)
	}
	return host, int(number), nil
}

// isHost reports whether a text may name a host. Only DNS knows whether it does.
func isHost(text string) bool {
	if strings.Contains(text, ":") {
		return net.ParseIP(text) != nil
	}
	return text != "" && !strings.ContainsAny(text, "/ \t\n@[]") && !strings.HasPrefix(text, "-")
}

var notInNames = regexp.MustCompile(`[^a-z0-9.]+`)

// nameOf turns the name of a host into the name of an object.
func nameOf(host string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(host), "-"), "-.")
}

func ourName() string {
	us, err := user.Current()
	if err != nil {
		return ""
	}
	return us.Username
}

func (o *options) validate() error {
	switch {
	case !isHost(o.host):
		return fmt.Errorf("%q is not a valid host name: write HOST or HOST:PORT", o.host)
	case !cluster.IsName(o.targetName):
		return fmt.Errorf("%q is not a valid name of a Kubernetes object: choose one with --name", o.targetName)
	case !cluster.IsName(o.credentials):
		return fmt.Errorf("--credentials %q is not a valid name of a Kubernetes object", o.credentials)
	case o.user == "":
		return errors.New("your user name is unknown here: say who logs in, as USER@HOST")
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %s is not positive", o.timeout)
	}
	return nil
}

func (o *options) run(ctx context.Context) error {
	scan, err := scanHost(ctx, net.JoinHostPort(o.host, strconv.Itoa(o.port)), o.timeout)
	if err != nil {
		return err
	}
	pins := strongKeys(scan.keys)
	if !o.Output.IsMachine() {
		o.describe(scan)
	}
	if len(pins) == 0 {
		return errors.New("every key of this host is too weak to be pinned: give it an ed25519 key (ssh-keygen -A)")
	}
	o.Output.Form = cmp.Or(o.Output.Form, plugin.YAML)
	return o.Output.Encode(o.Out, o.target(pins))
}

// describe prints what was found, and how to verify it.
func (o *options) describe(scan hostScan) {
	fmt.Fprintf(o.ErrOut, "%s at %s, %s\n\n", display.OneLine(o.host), scan.address, cmp.Or(scan.server, "an SSH server"))
	t := &display.Table{Columns: []string{"TYPE", "BITS", "FINGERPRINT", "PINNED"}}
	for _, key := range scan.keys {
		note := "yes"
		if !isStrong(key) {
			note = "no: too weak"
		}
		t.Add(strings.ToUpper(shortType(key)), strconv.Itoa(bitsOf(key)), ssh.FingerprintSHA256(key), note)
	}
	t.Write(o.ErrOut)
	fmt.Fprintf(o.ErrOut, "\nThis proves nothing yet: an attacker between you and the host could have answered.\n"+
		"Compare with what the host itself says, on its console or by another way that you trust:\n\n"+
		"  ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub\n\n"+
		"Then commit this target, and make the Secret %s for it:\n\n", shortType(scan.keys[0]), o.credentials)
}

func (o *options) target(pins []string) *v1alpha1.ConnectionTarget {
	spec := &v1alpha1.SSHTarget{
		Host:           o.host,
		User:           o.user,
		CredentialsRef: v1alpha1.SecretRef{Name: o.credentials},
		HostKeys:       v1alpha1.HostKeys{KnownHosts: pins},
	}
	if o.port != 22 {
		spec.Port = new(int32(o.port))
	}
	return &v1alpha1.ConnectionTarget{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ConnectionTarget"},
		ObjectMeta: metav1.ObjectMeta{Name: o.targetName, Namespace: o.Cluster.NamespaceFlag()},
		Spec:       v1alpha1.ConnectionTargetSpec{SSH: spec},
	}
}
