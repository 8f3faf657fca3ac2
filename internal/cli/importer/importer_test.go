package importer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/test/sshserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// read returns the targets and pools that were printed. Their names are valid, and
// different.
func read(t *testing.T, printed string) (targets []v1alpha1.ConnectionTarget, pools []v1alpha1.ConnectionPool) {
	t.Helper()
	seen := map[string]bool{}
	for document := range strings.SplitSeq(printed, "\n---\n") {
		var target v1alpha1.ConnectionTarget
		var pool v1alpha1.ConnectionPool
		if strings.Contains(document, "kind: ConnectionPool") {
			if err := yaml.UnmarshalStrict([]byte(document), &pool); err != nil {
				t.Fatalf("%v:\n%s", err, document)
			}
			pools = append(pools, pool)
		} else {
			if err := yaml.UnmarshalStrict([]byte(document), &target); err != nil {
				t.Fatalf("%v:\n%s", err, document)
			}
			targets = append(targets, target)
		}
		name := target.Kind + pool.Kind + "/" + target.Name + pool.Name
		if seen[name] || !cluster.IsName(target.Name+pool.Name) {
			t.Errorf("%s is there twice, or no name", name)
		}
		seen[name] = true
	}
	return targets, pools
}

// knownHosts has a key of every host.
func knownHosts(t *testing.T) (flag string) {
	t.Helper()
	server, err := sshserver.Start(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	return "--known-hosts=" + write(t, "known_hosts", "* "+sshhost.Pin(server.HostKey)+"\n")
}

func TestNamesBecomeValidAndDifferent(t *testing.T) {
	file := write(t, "hosts", "[web_servers]\nWeb_1\nweb-1 ansible_host=10.0.0.1\n[web-servers]\nweb-1.\n["+strings.Repeat("g", 70)+"]\nb\n")
	got := clitest.New(t, New).Run("import", "ansible-inventory", file, knownHosts(t))
	clitest.WantStderr(t, got, 0, "the target of Web_1 is called web-1", "the target of web-1 is called web-1-2",
		"the target of web-1. is called web-1-3", "the pool of web_servers is called web-servers", "the pool of web-servers is called web-servers-2")
	targets, pools := read(t, got.Stdout)
	if len(targets) != 4 || len(pools) != 3 {
		t.Errorf("%d targets and %d pools:\n%s", len(targets), len(pools), got.Stdout)
	}
}

func TestEachGroupBecomesAPoolOfItsHosts(t *testing.T) {
	file := write(t, "hosts", "alone\n[web]\nw1\nw2\n[db]\nw2\n")
	got := clitest.New(t, New).Run("import", "ansible-inventory", file, knownHosts(t))
	targets, pools := read(t, got.Stdout)
	members := map[string][]string{}
	for i := range pools {
		members[pools[i].Name] = cluster.Names(cluster.TargetsOf(&pools[i], targets))
	}
	for pool, want := range map[string][]string{"alone": {"alone"}, "web": {"w1", "w2"}, "db": {"w2"}} {
		if !slices.Equal(members[pool], want) {
			t.Errorf("pool %s has %v, want %v", pool, members[pool], want)
		}
	}
}

func TestHostsWithoutAKeyAreLeftOutAndNamed(t *testing.T) {
	server, err := sshserver.Start(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	host, port, _ := strings.Cut(server.Addr, ":")
	config := write(t, "config", "Host a\n HostName "+host+"\n Port "+port+"\nHost b\n ProxyJump a\nHost c\n ProxyJump b\n")
	empty := "--known-hosts=" + write(t, "known_hosts", "# nothing\n")
	f := clitest.New(t, New)
	clitest.WantStderr(t, f.Run("import", "ssh-config", config, empty), 1,
		"a is left out: known_hosts has no key for it", "no host of this file can be carried over")
	got := f.Run("import", "ssh-config", config, empty, "--scan")
	clitest.WantStderr(t, got, 0, ssh.FingerprintSHA256(server.HostKey), "b is left out: known_hosts has no key for it, and --scan cannot reach it through a jump host")
	targets, pools := read(t, got.Stdout)
	if len(targets) != 1 || len(pools) != 1 || targets[0].Spec.SSH.HostKeys.KnownHosts[0] != sshhost.Pin(server.HostKey) {
		t.Errorf("printed\n%s", got.Stdout)
	}
	onlyC := "--known-hosts=" + write(t, "known_hosts", "c "+sshhost.Pin(server.HostKey)+"\n")
	got = f.Run("import", "ssh-config", config, onlyC)
	clitest.WantStderr(t, got, 1, "c is left out: its jump host b is left out")
	if asked := f.Requests(); len(asked) > 0 {
		t.Errorf("asked the cluster %q", asked)
	}
}

func TestWhatIsNotCarriedOverStandsInTheFileAndOnStandardError(t *testing.T) {
	config := write(t, "config", "Host a\n ForwardAgent yes\n IdentityFile /keys/deploy\n")
	got := clitest.New(t, New).Run("import", "ssh-config", config, knownHosts(t), "--pool", "web", "--login", "ops", "-n", "prod")
	for _, note := range []string{
		"ForwardAgent is not carried over (a)",
		"kubectl create secret generic deploy --namespace prod --from-file=ssh-privatekey=/keys/deploy",
	} {
		if !strings.Contains(got.Stdout, "# ") || !strings.Contains(got.Stdout, note) || !strings.Contains(got.Stderr, "note: ") || !strings.Contains(got.Stderr, note) {
			t.Errorf("lacks %q:\n%s\n%s", note, got.Stdout, got.Stderr)
		}
	}
	targets, pools := read(t, got.Stdout)
	if target := targets[0]; target.Namespace != "prod" || target.Spec.SSH.User != "ops" || target.Spec.SSH.CredentialsRef.Name != "deploy" ||
		len(cluster.TargetsOf(&pools[0], targets)) != 1 || pools[0].Name != "web" {
		t.Errorf("printed\n%s", got.Stdout)
	}
}

func TestTheFileOfAnotherCannotPutCommandsIntoThoseToType(t *testing.T) {
	config := write(t, "config", "Host a\n IdentityFile /keys/my key;$(reboot)\n")
	got := clitest.New(t, New).Run("import", "ssh-config", config, knownHosts(t))
	if want := "--from-file='ssh-privatekey=/keys/my key;$(reboot)' &&"; !strings.Contains(got.Stdout, want) {
		t.Errorf("lacks %q:\n%s", want, got.Stdout)
	}
}

func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	f := clitest.New(t, New)
	clitest.WantStderr(t, f.Run("import", "ssh-config", "/nonexistent"), 1, "no such file")
	clitest.WantStderr(t, f.Run("import", "ansible-inventory", write(t, "hosts", "a b")), 1, "line 1")
	clitest.WantStderr(t, f.RunWith(strings.NewReader("a b"), "import", "ansible-inventory", "-"), 1, "line 1")
}
