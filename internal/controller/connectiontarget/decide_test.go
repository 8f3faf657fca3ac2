package connectiontarget

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver/drivertest"
)

// canary is part of every credential and must be nowhere else.
const canary = "s3cr3t-canary"

var sshOnly = Drivers{v1alpha1.TargetTypeSSH: new(drivertest.Fake)}

// complete are the facts of a target that can be dialed.
func complete() facts {
	target := sshTarget("web")
	return facts{
		now:    time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC),
		target: target,
		pools:  []v1alpha1.ConnectionPool{poolNamed("p")},
		path:   []pathElement{elementOf(target)},
	}
}

func sshTarget(name string) *v1alpha1.ConnectionTarget {
	return &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(name + "-uid"), Generation: 3},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
			Host: name + ".example.com", User: "deploy",
			CredentialsRef: v1alpha1.SecretRef{Name: name + "-ssh"},
			HostKeys:       v1alpha1.HostKeys{KnownHosts: []string{"ssh-ed25519 AAAA"}},
		}},
	}
}

func elementOf(target *v1alpha1.ConnectionTarget) pathElement {
	return pathElement{
		name: target.Name, target: target,
		secret:     &corev1.Secret{Data: map[string][]byte{"ssh-privatekey": []byte(canary)}},
		knownHosts: []byte("ssh-ed25519 AAAA\n"),
	}
}

func poolNamed(name string) v1alpha1.ConnectionPool {
	return v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(name + "-uid")},
	}
}

// through makes the facts those of a target behind jump hosts of these names, of
// which the nearest comes first.
func through(names ...string) func(*facts) {
	return func(f *facts) {
		for _, name := range names {
			f.path = append(f.path, elementOf(sshTarget(name)))
		}
	}
}

func both(changes ...func(*facts)) func(*facts) {
	return func(f *facts) {
		for _, change := range changes {
			change(f)
		}
	}
}

func TestTheFirstFailedCheckNamesTheProblemAndTheNextStep(t *testing.T) {
	tests := map[string]struct {
		change    func(*facts)
		reason    string
		condition string
		stalled   bool
		says      []string
	}{
		"no pool selects it": {
			func(f *facts) { f.pools = nil }, v1alpha1.ReasonNotSelected, "", false,
			[]string{"targetRef.name web", "targetSelector"},
		},
		"no driver speaks its protocol": {
			func(f *facts) {
				f.target.Spec = v1alpha1.ConnectionTargetSpec{Docker: &v1alpha1.DockerTarget{Endpoint: "tcp://build:2376"}}
				f.path = nil
			}, v1alpha1.ReasonDriverUnavailable, "", true, []string{"docker"},
		},
		"no pool selects it and its Secret is missing": {
			func(f *facts) { f.pools, f.path[0].secret = nil, nil }, v1alpha1.ReasonNotSelected, "", false, nil,
		},
		"the Secret is missing or not labeled": {
			func(f *facts) { f.path[0].secret = nil }, v1alpha1.ReasonCredentialsMissing, v1alpha1.ConditionCredentialsReady, true,
			[]string{"ssh.credentialsRef", "kubectl label secret -n prod web-ssh connpool.dev/credentials=true"},
		},
		"the ConfigMap with host keys is missing or not labeled": {
			func(f *facts) {
				f.target.Spec.SSH.HostKeys = v1alpha1.HostKeys{ConfigMapRef: &v1alpha1.KeyRef{Name: "pins", Key: "known_hosts"}}
				f.path[0].knownHosts = nil
			}, v1alpha1.ReasonHostKeysInvalid, v1alpha1.ConditionCredentialsReady, true,
			[]string{"ssh.hostKeys.configMapRef", "known_hosts", "kubectl label configmap -n prod pins"},
		},
		"the Secret with host keys is missing or not labeled": {
			func(f *facts) {
				f.target.Spec.SSH.HostKeys = v1alpha1.HostKeys{SecretRef: &v1alpha1.KeyRef{Name: "pins", Key: "known_hosts"}}
				f.path[0].knownHosts = nil
			}, v1alpha1.ReasonHostKeysInvalid, v1alpha1.ConditionCredentialsReady, true,
			[]string{"ssh.hostKeys.secretRef", "kubectl label secret -n prod pins"},
		},
		"the jump host does not exist": {
			func(f *facts) { f.path = append(f.path, pathElement{name: "bastion"}) },
			v1alpha1.ReasonJumpTargetInvalid, v1alpha1.ConditionReachable, true,
			[]string{"bastion does not exist", "ssh.jumpTargetRef", "web -> bastion"},
		},
		"the jump host is of another type": {
			both(through("bastion"), func(f *facts) { f.path[1].target.Spec = v1alpha1.ConnectionTargetSpec{} }),
			v1alpha1.ReasonJumpTargetInvalid, v1alpha1.ConditionReachable, true,
			[]string{"bastion is not of type ssh"},
		},
		"the jump host is itself": {
			through("web"), v1alpha1.ReasonJumpTargetInvalid, v1alpha1.ConditionReachable, true, []string{"cycle", "web -> web"},
		},
		"the jump hosts form a cycle": {
			through("a", "b", "a"), v1alpha1.ReasonJumpTargetInvalid, v1alpha1.ConditionReachable, true, []string{"web -> a -> b -> a"},
		},
		"there are more than three jump hosts": {
			through("a", "b", "c", "d"), v1alpha1.ReasonJumpTargetInvalid, v1alpha1.ConditionReachable, true,
			[]string{"more than 3", "web -> a -> b -> c -> d"},
		},
		"a jump host's Secret is missing": {
			both(through("a", "b"), func(f *facts) { f.path[2].secret = nil }),
			v1alpha1.ReasonJumpTargetNotReady, v1alpha1.ConditionReachable, true,
			[]string{"jump host b", "kubectl label secret -n prod b-ssh"},
		},
		"a jump host's host keys are missing": {
			both(through("a"), func(f *facts) {
				f.path[1].target.Spec.SSH.HostKeys = v1alpha1.HostKeys{SecretRef: &v1alpha1.KeyRef{Name: "pins", Key: "k"}}
				f.path[1].knownHosts = nil
			}), v1alpha1.ReasonJumpTargetNotReady, v1alpha1.ConditionReachable, true, []string{"jump host a", "ssh.hostKeys.secretRef"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := complete()
			tc.change(&f)
			got := decide(f, sshOnly)
			if got.want != nil || got.problem == nil {
				t.Fatalf("decided %+v, want a problem and nothing to connect", got)
			}
			p := got.problem
			if p.reason != tc.reason || p.condition != tc.condition || p.stalls() != tc.stalled {
				t.Errorf("%s in %q, stalled %v; want %s in %q, %v", p.reason, p.condition, p.stalls(), tc.reason, tc.condition, tc.stalled)
			}
			for _, words := range tc.says {
				if !strings.Contains(p.message, words) {
					t.Errorf("message %q lacks %q", p.message, words)
				}
			}
			if strings.Contains(p.message, canary) {
				t.Errorf("message %q holds a secret", p.message)
			}
		})
	}
}

func TestACompleteTargetHasNoProblem(t *testing.T) {
	for name, change := range map[string]func(*facts){
		"reached directly":        func(*facts) {},
		"behind three jump hosts": through("a", "b", "c"),
	} {
		t.Run(name, func(t *testing.T) {
			f := complete()
			change(&f)
			if got := decide(f, sshOnly); got.problem != nil || got.want == nil {
				t.Errorf("problem %+v, want none", got.problem)
			}
		})
	}
}

func TestAStatusDoesNotChangeWhileKeysArePreparedInUsualTime(t *testing.T) {
	target := func(observed int64) *v1alpha1.ConnectionTarget {
		target := sshTarget("web")
		target.Generation, target.Status.ObservedGeneration = 3, &observed
		return target
	}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	tests := map[string]struct {
		preparing time.Time
		observed  int64
		serves    bool
		quiet     bool
	}{
		"nothing is being prepared":                   {quiet: false},
		"a new target, since a moment":                {preparing: ago(0), quiet: true},
		"a new target, for long":                      {preparing: ago(time.Minute), quiet: false},
		"a target that was there before a restart":    {preparing: ago(time.Minute), observed: 3, quiet: true},
		"a target that serves, since a moment":        {preparing: ago(0), observed: 3, serves: true, quiet: true},
		"a target that serves, with counters to show": {preparing: ago(time.Minute), observed: 3, serves: true, quiet: false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (decision{preparing: tc.preparing}).quietFor(target(tc.observed), tc.serves); (got > 0) != tc.quiet {
				t.Errorf("quiet for %s, want quiet: %v", got, tc.quiet)
			}
		})
	}
}
