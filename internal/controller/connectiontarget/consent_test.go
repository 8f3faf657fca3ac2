package connectiontarget

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

func TestASecretThatNamesHostsAllowsTheseOnly(t *testing.T) {
	tests := map[string]struct {
		hosts, host string
		allowed     bool
	}{
		"the name itself":                  {"web.example.com", "web.example.com", true},
		"in other letters, with a dot":     {"Web.Example.com.", "web.example.com", true},
		"another name":                     {"web.example.com", "evil.example.com", false},
		"a name behind it":                 {"web.example.com", "web.example.com.evil.net", false},
		"one of several":                   {"db.example.com, web-*.example.com", "web-1.example.com", true},
		"a pattern for subdomains":         {"*.example.com", "a.b.example.com", true},
		"the domain is no subdomain":       {"*.example.com", "example.com", false},
		"a name that only ends like it":    {"*.example.com", "evilexample.com", false},
		"an address in a range":            {"10.0.0.0/8", "10.1.2.3", true},
		"an address beside the range":      {"10.0.0.0/8", "11.1.2.3", false},
		"the address itself":               {"10.1.2.3", "10.1.2.3", true},
		"an IPv6 address in a range":       {"2001:db8::/32", "2001:db8::1", true},
		"a name is in no range":            {"0.0.0.0/0", "web.example.com", false},
		"a name that begins like a range":  {"10.*", "10.evil.com", false},
		"an address matches no pattern":    {"*.0.0.1", "10.0.0.1", false},
		"a star alone names no host":       {"*", "web.example.com", false},
		"nothing is named":                 {"", "web.example.com", false},
		"only a comma":                     {",", "web.example.com", false},
		"what is no host allows nothing":   {"https://web.example.com", "web.example.com", false},
		"brackets are no part of patterns": {"[a-z]*.example.com", "web.example.com", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := allowsHost(tc.hosts, tc.host); got != tc.allowed {
				t.Errorf("allowsHost(%q, %q) = %t", tc.hosts, tc.host, got)
			}
		})
	}
}

func TestCredentialsGoToTheHostsThatTheirSecretNames(t *testing.T) {
	limit := func(i int, hosts string) func(*facts) {
		return func(f *facts) { f.path[i].secret.Annotations = map[string]string{v1alpha1.HostsAnnotation: hosts} }
	}
	docker := func(endpoint string) func(*facts) {
		return func(f *facts) {
			f.target.Spec = v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{
				Endpoint: endpoint, TLSRef: &v1alpha1.SecretRef{Name: "web-tls"},
			}}
			f.path[0].secret = &corev1.Secret{}
		}
	}
	cluster := func(f *facts) {
		f.target.Spec = v1alpha1.ConnectionTargetSpec{Kubernetes: &v1alpha1.KubernetesTarget{
			KubeconfigRef: v1alpha1.KeyRef{Name: "web-kubeconfig", Key: "config"},
		}}
		f.path[0].secret, f.path[0].cluster.address = &corev1.Secret{}, "api.example.com:6443"
	}
	tests := map[string]struct {
		change func(*facts)
		reason string // empty: the credentials go there
		says   string
	}{
		"a Secret that names none":                {func(*facts) {}, "", ""},
		"the host of the target":                  {limit(0, "web.example.com"), "", ""},
		"another host":                            {limit(0, "db.example.com"), v1alpha1.ReasonCredentialsMissing, "the Secret web-ssh does not name the host web.example.com"},
		"an annotation without a value":           {limit(0, ""), v1alpha1.ReasonCredentialsMissing, "connpool.dev/hosts"},
		"a jump host that could pose as it":       {both(through("evil"), limit(0, "web.example.com")), v1alpha1.ReasonCredentialsMissing, "does not name the host evil.example.com"},
		"a jump host that is named, too":          {both(through("bastion"), limit(0, "web.example.com,bastion.example.com")), "", ""},
		"a jump host's own Secret":                {both(through("bastion"), limit(1, "bastion.example.com")), "", ""},
		"a jump host's Secret for another host":   {both(through("bastion"), limit(1, "db.example.com")), v1alpha1.ReasonJumpTargetNotReady, "the jump host bastion cannot be used: the annotation"},
		"a Docker engine":                         {both(docker("tcp://build.example.com:2376"), limit(0, "*.example.com")), "", ""},
		"a Docker engine at another host":         {both(docker("tcp://build.evil.net:2376"), limit(0, "*.example.com")), v1alpha1.ReasonCredentialsMissing, "the Secret web-tls does not name the host build.evil.net"},
		"a cluster":                               {both(cluster, limit(0, "api.example.com")), "", ""},
		"a cluster at another host":               {both(cluster, limit(0, "web.example.com")), v1alpha1.ReasonCredentialsMissing, "api.example.com"},
		"a Secret that does not exist has no say": {func(f *facts) { f.path[0].secret = nil }, "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := complete()
			tc.change(&f)
			found := checkConsent(f, sshOnly)
			switch {
			case found == nil && tc.reason != "":
				t.Fatalf("allowed, want %s", tc.reason)
			case found != nil && (found.reason != tc.reason || !strings.Contains(found.message, tc.says)):
				t.Errorf("%s: %q, want %s with %q", found.reason, found.message, tc.reason, tc.says)
			case found != nil && strings.Contains(found.message, canary):
				t.Errorf("%q gives the Secret away", found.message)
			}
		})
	}
}

func TestAHostThatTheSecretDoesNotNameIsNotDialed(t *testing.T) {
	f := complete()
	f.path[0].secret.Annotations = map[string]string{v1alpha1.HostsAnnotation: "db.example.com"}
	if decided := decide(f, sshOnly); decided.want != nil || decided.problem == nil {
		t.Errorf("decided %+v, want a problem", decided)
	}
}
