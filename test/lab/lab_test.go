package lab

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// asCommand makes the test binary the lab's command.
const asCommand = "CONNPOOL_TEST_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// fixture is a lab's folder, and the command on it.
type fixture struct {
	folder

	t *testing.T
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{folder(t.TempDir()), t}
	t.Cleanup(func() { f.run("down") })
	return f
}

// start runs the command and returns what it printed.
func (f fixture) try(command string, flags ...string) (string, error) {
	f.t.Helper()
	executable, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	flags = append([]string{command, "--dir=" + string(f.folder), "--api-port=0"}, flags...)
	cmd := exec.Command(executable, flags...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (f fixture) run(command string, flags ...string) string {
	f.t.Helper()
	out, err := f.try(command, flags...)
	if err != nil {
		f.t.Fatalf("lab %s: %v\n%s", command, err, out)
	}
	return out
}

func (f fixture) up() { f.t.Helper(); f.run("up", "--ssh-port=0") }

// TestALab follows one lab from its start to its end.
func TestALab(t *testing.T) {
	f := newFixture(t)
	if out := f.run("status"); !strings.Contains(out, "no lab is running") {
		t.Errorf("status before the start: %s", out)
	}
	f.up()
	pid := f.pid()
	if out := f.run("status"); !strings.Contains(out, fmt.Sprintf("process %d", pid)) || !strings.Contains(out, "ready at https") {
		t.Errorf("status: %s, want the process and a ready API server", out)
	}
	if out, err := f.try("up", "--ssh-port=0"); err == nil || !strings.Contains(out, "already running") {
		t.Errorf("a second lab in the folder: %v, %s", err, out)
	}
	if f.pid() != pid {
		t.Errorf("the second start has changed the pid file to %d, want %d", f.pid(), pid)
	}
	f.checkSamples()
	f.checkSSH()

	left := f.leftovers()
	if len(left) < 2 {
		t.Errorf("processes %v, want etcd and kube-apiserver at least", left)
	}
	f.run("down")
	for _, pid := range append(left, pid) {
		if !ends(pid) {
			t.Errorf("process %d is left running", pid)
		}
	}
	if out := f.run("down"); !strings.Contains(out, "no lab is running") {
		t.Errorf("down without a lab: %s", out)
	}
}

// checkSamples applies the samples to the lab's API server.
func (f fixture) checkSamples() {
	f.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig())
	if err != nil {
		f.t.Fatal(err)
	}
	api, err := client.New(config, client.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.applySamples(f.t.Context(), api); err != nil {
		f.t.Error(err)
	}
	tables, err := newTables(config)
	if err != nil {
		f.t.Fatal(err)
	}
	defer tables.client.CloseIdleConnections()
	now, err := tables.view(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, word := range []string{"READY-TARGETS", "web-1", "db-1", downSample} {
		if !strings.Contains(now.String(), word) {
			f.t.Errorf("the tables lack %q:\n%s", word, now)
		}
	}
	if now.settled() {
		f.t.Error("pools count as warm, although there is no operator")
	}
}

// checkSSH stops the SSH server and starts it again.
func (f fixture) checkSSH() {
	f.t.Helper()
	f.awaitLogin(true)
	f.run("ssh-stop")
	f.awaitLogin(false)
	if out := f.run("status"); !strings.Contains(out, "away") {
		f.t.Errorf("status: %s, want that the SSH server is away", out)
	}
	f.run("ssh-start")
	f.awaitLogin(true)
}

func (f fixture) awaitLogin(works bool) {
	f.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(20 * time.Second)
	for {
		err := f.login()
		if (err == nil) == works {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			f.t.Fatalf("log in to the lab: %v", err)
		}
	}
}

// login logs in with what the samples say.
func (f fixture) login() error {
	objects, err := f.readSamples()
	if err != nil {
		return err
	}
	find := func(kind, name string, path ...string) string {
		for _, object := range objects {
			if object.GetKind() == kind && object.GetName() == name {
				value, _, _ := unstructured.NestedFieldNoCopy(object.Object, path...)
				return fmt.Sprint(value)
			}
		}
		return ""
	}
	hosts := filepath.Join(f.t.TempDir(), "known_hosts")
	if err := os.WriteFile(hosts, []byte(find("ConfigMap", "lab-known-hosts", "data", "known_hosts")), 0o600); err != nil {
		return err
	}
	verify, err := knownhosts.New(hosts)
	if err != nil {
		return err
	}
	key, err := ssh.ParsePrivateKey([]byte(find("Secret", "lab-ssh", "stringData", "ssh-privatekey")))
	if err != nil {
		return err
	}
	address := net.JoinHostPort(
		find("ConnectionTarget", "web-1", "spec", "ssh", "host"), find("ConnectionTarget", "web-1", "spec", "ssh", "port"))
	connection, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User:              find("ConnectionTarget", "web-1", "spec", "ssh", "user"),
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   verify,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		Timeout:           5 * time.Second,
	})
	if err != nil {
		return err
	}
	return connection.Close()
}

func TestALabThatWasKilledIsRecognized(t *testing.T) {
	f := newFixture(t)
	f.up()
	pid, left := f.pid(), f.leftovers()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	held, err := f.await(stopLimit)
	if err != nil {
		t.Fatal(err)
	}
	_ = held.file.Close() // release would tidy up
	if out := f.run("status"); !strings.Contains(out, fmt.Sprintf("process %d was one and was killed", pid)) {
		t.Errorf("status: %s", out)
	}
	f.up()
	for _, pid := range left {
		if !ends(pid) {
			t.Errorf("process %d of the killed lab is left running", pid)
		}
	}
	if f.pid() == pid {
		t.Error("the pid file is still that of the killed lab")
	}
}

func TestATakenPortIsNamedWithItsFlag(t *testing.T) {
	listener, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	out, err := f.try("up", "--ssh-port="+port)
	if err == nil || !strings.Contains(out, port) || !strings.Contains(out, "--ssh-port") {
		t.Errorf("%v, want an error with the port and the flag:\n%s", err, out)
	}
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("processes %v are left running", left)
	}
}

// ends reports whether a process ends within a few seconds: the kernel needs a moment
// for one that was killed, and more of them on a busy machine.
func ends(pid int) bool {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		if !isAlive(pid) {
			return true
		}
		<-ticker.C
	}
	return false
}

// isAlive reports whether a process runs. One that has ended and waits to be reaped
// by another process does not.
func isAlive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestSamplesAreOfTheAPI(t *testing.T) {
	where := folder(t.TempDir())
	err := writeSamples(where.samples(), access{
		Addr: "127.0.0.1:12222", User: "jo", PrivateKey: "one\ntwo\n", HostKey: "ssh-ed25519 AAAA\n", KnownHosts: "[127.0.0.1]:12222 ssh-ed25519 AAAA",
	}, []byte("kind: Config\n"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := where.readSamples()
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, object := range objects {
		kinds = append(kinds, object.GetKind())
	}
	want := "Secret ConfigMap ConnectionTarget ConnectionTarget ConnectionTarget ConnectionTarget ConnectionPool ConnectionPool " +
		"Namespace ServiceAccount RoleBinding Secret ConnectionTarget ConnectionPool"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("samples: %s, want %s", got, want)
	}
	for _, object := range objects[:2] {
		if object.GetLabels()[v1alpha1.CredentialsLabel] != v1alpha1.CredentialsLabelValue {
			t.Errorf("%s %s lacks the label that lets connpool read it", object.GetKind(), object.GetName())
		}
	}
	key, _, _ := unstructured.NestedString(objects[0].Object, "stringData", "ssh-privatekey")
	if key != "one\ntwo\n" {
		t.Errorf("private key %q, want its two lines", key)
	}
}

func TestOnlyProgramsOfTheLabAreItsOwn(t *testing.T) {
	tests := map[string]struct {
		command []string
		want    bool
	}{
		"its etcd":                       {[]string{"/x/etcd", "--data-dir=/l/.lab/controlplane/etcd-data"}, true},
		"its sshd, as that calls itself": {[]string{"sshd: /usr/sbin/sshd -D -e -f /l/.lab/ssh/sshd_config [listener]"}, true},
		"the etcd of another lab":        {[]string{"/x/etcd", "--data-dir=/l/.lab2/controlplane/etcd-data"}, false},
		"an editor with one of its files": {[]string{
			"vi", "/l/.lab/samples/1-access.yaml",
		}, false},
		"a thread of the kernel": {nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := folder("/l/.lab").started(strings.Join(tc.command, "\x00")); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
