package connectiontarget

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
)

var allDrivers = Drivers{
	v1alpha1.TargetTypeSSH:        new(drivertest.Fake),
	v1alpha1.TargetTypeDocker:     new(drivertest.Fake),
	v1alpha1.TargetTypeKubernetes: new(drivertest.Fake),
}

// factsOf returns the facts of a target of any type. Its Secret has the keys of every
// type.
func factsOf(spec v1alpha1.ConnectionTargetSpec) facts {
	f := complete()
	f.target.Spec = spec
	here := pathElement{name: f.target.Name, target: f.target, secret: &corev1.Secret{Data: map[string][]byte{
		"ca.crt": []byte("CA"), "tls.crt": []byte("certificate"), "tls.key": []byte(canary),
		"config": []byte(kubeconfigText("https://prod.example.com:6443")), "stray": []byte(canary),
	}}}
	f.path = []pathElement{here}
	return f
}

func overTLS() facts {
	return factsOf(v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{
		Endpoint: "tcp://build-1:2376", TLSRef: &v1alpha1.SecretRef{Name: "build-tls"},
	}})
}

func onSocket() facts {
	f := factsOf(v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{Endpoint: "unix:///var/run/docker.sock"}})
	f.path[0].secret = nil
	return f
}

// overSSH returns the facts of a docker target behind ssh targets of these names.
func overSSH(names ...string) func() facts {
	return func() facts {
		f := onSocket()
		f.target.Spec.Docker.SSHTargetRef = &v1alpha1.TargetRef{Name: names[0]}
		through(names...)(&f)
		return f
	}
}

func ofCluster() facts {
	f := factsOf(v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{
		KubeconfigRef: v1alpha1.KeyRef{Name: "prod-kubeconfig", Key: "config"},
	}})
	f.readCluster()
	return f
}

// readCluster reads the kubeconfig as gather does.
func (f *facts) readCluster() {
	spec := f.target.Spec.Kubernetes
	f.path[0].cluster = readCluster(f.path[0].secret.Data[spec.KubeconfigRef.Key], ptr.Deref(spec.Context, ""))
}

// kubeconfigText returns a kubeconfig with two contexts. The current one, prod, leads to
// the server.
func kubeconfigText(server string) string {
	return fmt.Sprintf(`{kind: Config, apiVersion: v1, current-context: prod,
  clusters: [{name: one, cluster: {server: %q, certificate-authority-data: Q0E=}},
             {name: two, cluster: {server: "https://test.example.com", tls-server-name: kubernetes}}],
  contexts: [{name: prod, context: {cluster: one, user: me}}, {name: test, context: {cluster: two, user: me}}],
  users: [{name: me, user: {token: %s}}]}`, server, canary)
}

func TestFailedChecksOfDockerAndKubernetesTargetsNameTheProblem(t *testing.T) {
	tests := map[string]struct {
		facts  func() facts
		change func(*facts)
		reason string
		says   []string
	}{
		"the TLS Secret of an engine is missing or not labeled": {
			overTLS, func(f *facts) { f.path[0].secret = nil }, v1alpha1.ReasonCredentialsMissing,
			[]string{"docker.tlsRef", "kubectl label secret -n prod build-tls connpool.dev/credentials=true"},
		},
		"the ssh target of an engine does not exist": {
			overSSH("build-1"), func(f *facts) { f.path[1] = pathElement{name: "build-1"} }, v1alpha1.ReasonJumpTargetInvalid,
			[]string{"build-1 does not exist", "docker.sshTargetRef", "web -> build-1"},
		},
		"the ssh target of an engine is a Docker engine": {
			overSSH("build-1"),
			func(f *facts) { f.path[1] = pathElement{name: "build-1", target: overTLS().target} }, v1alpha1.ReasonJumpTargetInvalid,
			[]string{"build-1 is not of type ssh", "docker.sshTargetRef", "web -> build-1"},
		},
		"a jump host behind the ssh target does not exist": {
			overSSH("build-1", "bastion"), func(f *facts) { f.path[2] = pathElement{name: "bastion"} }, v1alpha1.ReasonJumpTargetInvalid,
			[]string{"bastion does not exist", "ssh.jumpTargetRef", "web -> build-1 -> bastion"},
		},
		"the jump hosts behind the ssh target form a cycle": {
			overSSH("build-1", "bastion", "build-1"), nil, v1alpha1.ReasonJumpTargetInvalid,
			[]string{"cycle", "web -> build-1 -> bastion -> build-1"},
		},
		"the ssh target and its jump hosts are more than three": {
			overSSH("a", "b", "c", "d"), nil, v1alpha1.ReasonJumpTargetInvalid, []string{"more than 3", "web -> a -> b -> c -> d"},
		},
		"the Secret of the ssh target is missing": {
			overSSH("build-1"), func(f *facts) { f.path[1].secret = nil }, v1alpha1.ReasonJumpTargetNotReady,
			[]string{"build-1", "kubectl label secret -n prod build-1-ssh"},
		},
		"the kubeconfig's Secret is missing or not labeled": {
			ofCluster, func(f *facts) { f.path[0].secret = nil }, v1alpha1.ReasonCredentialsMissing,
			[]string{"kubernetes.kubeconfigRef", "kubectl label secret -n prod prod-kubeconfig connpool.dev/credentials=true"},
		},
		"the Secret lacks the key of the kubeconfig": {
			ofCluster, func(f *facts) { f.target.Spec.Kubernetes.KubeconfigRef.Key = "kubeconfig" }, v1alpha1.ReasonCredentialsMissing,
			[]string{"prod-kubeconfig lacks the key kubeconfig", "kubernetes.kubeconfigRef.key"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := tc.facts()
			if tc.change != nil {
				tc.change(&f)
			}
			got := decide(f, allDrivers)
			if got.problem == nil || got.want != nil || got.problem.reason != tc.reason || !got.problem.stalls() {
				t.Fatalf("decided %+v, want %s and nothing to connect", got.problem, tc.reason)
			}
			for _, words := range tc.says {
				if !strings.Contains(got.problem.message, words) {
					t.Errorf("message %q lacks %q", got.problem.message, words)
				}
			}
			if strings.Contains(got.problem.message, canary) {
				t.Errorf("message %q holds a secret", got.problem.message)
			}
		})
	}
}

func TestEachTypeOfTargetHasItsOwnAccess(t *testing.T) {
	tests := map[string]struct {
		facts     func() facts
		want      driver.Endpoint
		keys      []string
		jumpHosts string
		endpoint  string
	}{
		"an engine over TLS": {
			overTLS,
			driver.Endpoint{Network: "tcp", Address: "build-1:2376"},
			[]string{"ca.crt", "tls.crt", "tls.key"},
			"", "tcp://build-1:2376",
		},
		"an engine on the operator's own host": {
			onSocket, driver.Endpoint{Network: "unix", Address: "/var/run/docker.sock"}, nil, "", "unix:///var/run/docker.sock",
		},
		"an engine behind an ssh target and its jump host": {
			overSSH("build-1", "bastion"),
			driver.Endpoint{Network: "unix", Address: "/var/run/docker.sock"},
			nil, "build-1 bastion", "unix:///var/run/docker.sock via ssh target build-1",
		},
		"an engine behind as many ssh targets as there may be": {
			overSSH("a", "b", "c"),
			driver.Endpoint{Network: "unix", Address: "/var/run/docker.sock"},
			nil, "a b c", "unix:///var/run/docker.sock via ssh target a",
		},
		"a cluster": {
			ofCluster,
			driver.Endpoint{Network: "tcp", Address: "prod.example.com:6443"},
			[]string{"kubeconfig"},
			"", "https://prod.example.com:6443",
		},
		"a cluster by another context and namespace": {
			func() facts {
				f := ofCluster()
				f.target.Spec.Kubernetes.Context, f.target.Spec.Kubernetes.DefaultNamespace = new("test"), new("web")
				f.readCluster()
				return f
			},
			driver.Endpoint{Network: "tcp", Address: "test.example.com:443", Context: "test", Namespace: "web"},
			[]string{"kubeconfig"},
			"", "https://test.example.com",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := tc.facts()
			decided := decide(f, allDrivers)
			if decided.problem != nil {
				t.Fatalf("problem %+v, want none", decided.problem)
			}
			if kind := f.target.Spec.Type(); decided.want.Driver != allDrivers[kind] || decided.want.Type != string(kind) {
				t.Errorf("driver or type %s is not that of %s", decided.want.Type, kind)
			}
			got := decided.want.Endpoint
			if keys := slices.Sorted(maps.Keys(got.Credentials)); !slices.Equal(keys, tc.keys) {
				t.Errorf("the driver is given the keys %v, want %v", keys, tc.keys)
			}
			got.Credentials = nil
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("endpoint (-want +got):\n%s", diff)
			}
			if jumpHosts := jumpHostsOf(decided.want); jumpHosts != tc.jumpHosts {
				t.Errorf("reached through %q, want %q", jumpHosts, tc.jumpHosts)
			}
			next := report(f, decided, poolset.Observation{}, v1alpha1.ConnectionTargetStatus{}, "replica")
			if ptr.Deref(next.Endpoint, "") != tc.endpoint || *next.Type != f.target.Spec.Type() {
				t.Errorf("status says %s %s, want %s", *next.Type, ptr.Deref(next.Endpoint, ""), tc.endpoint)
			}
			checkForm(t, next)
		})
	}
}

func jumpHostsOf(want *poolset.Target) string {
	var names []string
	for jumpHost := want.JumpHost; jumpHost != nil; jumpHost = jumpHost.JumpHost {
		names = append(names, jumpHost.Name)
	}
	return strings.Join(names, " ")
}

// The identity changes with the host or the account, the version with what new
// connections use, and trust with the pinned identity.
func TestIdentityVersionAndTrustOfDockerAndKubernetesTargets(t *testing.T) {
	const same, other = false, true
	secret := func(key, value string) func(*facts) {
		return func(f *facts) { f.path[0].secret.Data[key] = []byte(value) }
	}
	tests := map[string]struct {
		facts                    func() facts
		change                   func(*facts)
		identity, version, trust bool
	}{
		"another port of an engine": {
			overTLS, func(f *facts) { f.target.Spec.Docker.Endpoint = "tcp://build-1:2377" }, other, same, same,
		},
		"another client certificate":               {overTLS, secret("tls.crt", "new"), same, other, same},
		"another authority of an engine":           {overTLS, secret("ca.crt", "new"), same, other, other},
		"another key that the driver does not use": {overTLS, secret("stray", "new"), same, same, same},
		"another ssh target of an engine": {
			overSSH("build-1"), func(f *facts) { f.path[1] = elementOf(sshTarget("build-2")) }, other, same, same,
		},
		"another Secret of the ssh target": {
			overSSH("build-1"), func(f *facts) { f.path[1].secret.Data["ssh-privatekey"] = []byte("new") }, same, same, same,
		},
		"another token":  {ofCluster, secret("config", strings.ReplaceAll(kubeconfigText("https://prod.example.com:6443"), canary, "new")), same, other, same},
		"another server": {ofCluster, secret("config", kubeconfigText("https://elsewhere.example.com")), other, other, same},
		"the same server without its scheme, and with a slash": {
			ofCluster, secret("config", kubeconfigText("prod.example.com:6443/")), same, other, same,
		},
		"another authority of a cluster": {
			ofCluster, secret("config", strings.ReplaceAll(kubeconfigText("https://prod.example.com:6443"), "Q0E=", "bmV3")), same, other, other,
		},
		"another context of the spec": {
			ofCluster, func(f *facts) { f.target.Spec.Kubernetes.Context = new("test") }, other, same, other,
		},
		"another default namespace": {
			ofCluster, func(f *facts) { f.target.Spec.Kubernetes.DefaultNamespace = new("web") }, same, other, same,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			wanted := func(change func(*facts)) *poolset.Target {
				f := tc.facts()
				change(&f)
				if f.target.Spec.Kubernetes != nil {
					f.readCluster()
				}
				return desired(f, allDrivers)
			}
			before, after := wanted(func(*facts) {}), wanted(tc.change)
			if got := after.Identity != before.Identity; got != tc.identity {
				t.Errorf("identity changed: %v, want %v (%q)", got, tc.identity, after.Identity)
			}
			if got := after.Version != before.Version; got != tc.version {
				t.Errorf("version changed: %v, want %v", got, tc.version)
			}
			if got := after.Trust != before.Trust; got != tc.trust {
				t.Errorf("trust changed: %v, want %v", got, tc.trust)
			}
		})
	}
}

// F15 for clusters: a broken kubeconfig does not say where it leads, so the identity
// stays the same, and the status keeps the endpoint of the connections that serve.
func TestAKubeconfigThatCannotBeReadHasNoIdentity(t *testing.T) {
	tests := map[string]string{
		"it is empty":                   "",
		"it is not YAML":                "{",
		"it has no such context":        "{kind: Config, apiVersion: v1, current-context: gone}",
		"its context lacks its cluster": "{kind: Config, apiVersion: v1, current-context: a, contexts: [{name: a, context: {cluster: b}}]}",
		"its server is not a URL":       kubeconfigText("https://%zz"),
		"its server has no host":        kubeconfigText("https://"),
		"it is too large":               kubeconfigText("https://prod.example.com") + strings.Repeat("\n", 64<<10),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			f := ofCluster()
			last := report(f, decide(f, allDrivers), poolset.Observation{}, v1alpha1.ConnectionTargetStatus{}, "replica")
			f.path[0].secret.Data["config"] = []byte(content)
			f.readCluster()
			decided := decide(f, allDrivers)
			if decided.want == nil || decided.want.Identity != "" {
				t.Fatalf("wanted %+v (%+v), want one without an identity", decided.want, decided.problem)
			}
			next := report(f, decided, poolset.Observation{}, last, "replica")
			if ptr.Deref(next.Endpoint, "") != "https://prod.example.com:6443" {
				t.Errorf("endpoint %q, want the last one", ptr.Deref(next.Endpoint, ""))
			}
		})
	}
}

func TestAServersURLIsShownWithoutUserAndQuery(t *testing.T) {
	shown, address := serverOf("https://me:" + canary + "@prod.example.com/clusters/c-1/?token=" + canary)
	if shown != "https://prod.example.com/clusters/c-1" || address != "prod.example.com:443" {
		t.Errorf("%s at %s", shown, address)
	}
}

func TestTargetsAreIndexedByWhatTheyReferTo(t *testing.T) {
	target := func(spec v1alpha1.ConnectionTargetSpec) *v1alpha1.ConnectionTarget {
		return &v1alpha1.ConnectionTarget{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: spec}
	}
	jump := sshTarget("web")
	jump.Spec.SSH.JumpTargetRef = &v1alpha1.TargetRef{Name: "bastion"}
	jump.Spec.SSH.HostKeys = v1alpha1.HostKeys{SecretRef: &v1alpha1.KeyRef{Name: "pins", Key: "k"}}
	tests := map[string]struct {
		target         *v1alpha1.ConnectionTarget
		secrets, jumps []string
	}{
		"an ssh target":      {jump, []string{"web-ssh", "pins"}, []string{"bastion"}},
		"an engine":          {target(overTLS().target.Spec), []string{"build-tls"}, nil},
		"a local engine":     {target(onSocket().target.Spec), nil, nil},
		"an engine over ssh": {target(overSSH("build-1")().target.Spec), nil, []string{"build-1"}},
		"a cluster":          {target(ofCluster().target.Spec), []string{"prod-kubeconfig"}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := secretNames(tc.target); !slices.Equal(got, tc.secrets) {
				t.Errorf("Secrets %v, want %v", got, tc.secrets)
			}
			if got := jumpNames(tc.target); !slices.Equal(got, tc.jumps) {
				t.Errorf("jump hosts %v, want %v", got, tc.jumps)
			}
		})
	}
}
