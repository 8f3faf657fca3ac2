package connectiontarget

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

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
