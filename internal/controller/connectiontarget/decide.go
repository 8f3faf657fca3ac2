package connectiontarget

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// decision is what to do about a target.
type decision struct {
	// want is what the pools are told. Nil means that they must not dial the target
	// on behalf of a pool.
	want *poolset.Target
	// problem is why want is nil, or why the pools refused it. Nil means that there
	// is none.
	problem *problem
	// preparing is since when the credentials are being prepared; zero if they are not.
	preparing time.Time
}

// quietPreparation is how long credentials may be prepared before a status says so.
const quietPreparation = time.Second

// quietFor returns for how long the status stays as it is while the credentials are
// being prepared; 0 means that it does not. That the operator has restarted and that
// keys take their time is no news for a target that does not serve yet.
func (d decision) quietFor(target *v1alpha1.ConnectionTarget, serves bool) time.Duration {
	if d.preparing.IsZero() {
		return 0
	}
	if left := quietPreparation - time.Since(d.preparing); left > 0 {
		return left
	}
	if !serves && ptr.Deref(target.Status.ObservedGeneration, 0) == target.Generation {
		return status.Interval
	}
	return 0
}

// problem is the first fact that keeps the target from being dialed.
type problem struct {
	// condition is the type of the condition that the problem belongs to, besides
	// Ready; empty if it belongs to Ready only.
	condition string
	reason    string
	// message is one plain sentence with the next step.
	message string
}

// stalls reports whether the target is stalled by the problem: only a change by a
// person removes it. That is true of all problems but those that are expected, such
// as that no pool selects the target.
func (p *problem) stalls() bool { return !v1alpha1.IsExpectedReason(p.reason) }

// refusal returns the problem as requests for the target are told; nil if there is none.
func (p *problem) refusal() *driver.Error {
	if p == nil {
		return nil
	}
	return &driver.Error{Reason: driver.Reason(p.reason), Stage: driver.StagePrepare, Message: p.message}
}

// checks are in the order in which a new user meets them. The first that fails is
// reported.
var checks = []func(facts, Drivers) *problem{
	checkSelected,
	checkDriver,
	checkJumps,
	checkSecret,
	checkKubeconfig,
	checkConsent,
	checkHostKeys,
}

// decide is pure: the same facts lead to the same decision.
func decide(f facts, drivers Drivers) decision {
	for _, check := range checks {
		if found := check(f, drivers); found != nil {
			return decision{problem: found}
		}
	}
	if len(f.pools) == 0 {
		return decision{} // it is dialed on behalf of its dependents only
	}
	return decision{want: desired(f, drivers)}
}

// checkSelected checks that a pool selects the target, or that it is a jump host. No
// other target is dialed.
func checkSelected(f facts, _ Drivers) *problem {
	if len(f.pools) > 0 || f.onlyJumpHost {
		return nil
	}
	return &problem{reason: v1alpha1.ReasonNotSelected, message: fmt.Sprintf(
		"no ConnectionPool of the namespace selects this target; create one with targetRef.name %s "+
			"or with a targetSelector that matches its labels", f.target.Name)}
}

// checkDriver checks that this build speaks the target's protocol.
func checkDriver(f facts, drivers Drivers) *problem {
	kind := f.target.Spec.Type()
	if drivers[kind] != nil {
		return nil
	}
	return &problem{reason: v1alpha1.ReasonDriverUnavailable, message: fmt.Sprintf(
		"this version of the operator does not connect to %s targets; use a version that does", kind)}
}

// checkJumps checks that the path has at most maxJumps jump hosts, and that each is
// an ssh target with credentials.
func checkJumps(f facts, _ Drivers) *problem {
	for i := 1; i < len(f.path); i++ {
		if found := checkJump(f.path[:i], f.path[i], pathString(f.path[:i+1])); found != nil {
			return found
		}
	}
	return nil
}

// checkJump checks one jump host, which comes after others on the path. The text
// shows the path up to it.
func checkJump(before []pathElement, here pathElement, text string) *problem {
	field, _ := jumpRef(before[len(before)-1].target)
	switch {
	case here.target == nil:
		return jumpInvalid("the target %s does not exist; create it or correct %s (%s)", here.name, field, text)
	case here.target.Spec.SSH == nil:
		return jumpInvalid("the target %s is not of type ssh; choose one that is in %s (%s)", here.name, field, text)
	case visited(before, here.name):
		return jumpInvalid("the jump hosts form a cycle at %s; remove one ssh.jumpTargetRef of %s", here.name, text)
	case len(before) > maxJumps:
		return jumpInvalid("there are more than %d jump hosts on the path; make it shorter: %s", maxJumps, text)
	case here.secret == nil:
		return jumpNotReady(here.name, missingSecret(here.target))
	case here.knownHosts == nil:
		return jumpNotReady(here.name, missingHostKeys(here.target))
	}
	return nil
}

func jumpInvalid(format string, arguments ...any) *problem {
	return &problem{
		condition: v1alpha1.ConditionReachable, reason: v1alpha1.ReasonJumpTargetInvalid,
		message: fmt.Sprintf(format, arguments...),
	}
}

func jumpNotReady(name, why string) *problem {
	return &problem{
		condition: v1alpha1.ConditionReachable, reason: v1alpha1.ReasonJumpTargetNotReady,
		message: fmt.Sprintf("the jump host %s cannot be used: %s", name, why),
	}
}

// pathString returns the path as text, such as "web -> bastion -> web".
func pathString(path []pathElement) string {
	names := make([]string, len(path))
	for i, here := range path {
		names[i] = here.name
	}
	return strings.Join(names, " -> ")
}

// checkSecret checks that the Secret, if the target needs one, exists and is
// labeled.
func checkSecret(f facts, _ Drivers) *problem {
	if _, name := credentialsOf(f.target); name == "" || f.path[0].secret != nil {
		return nil
	}
	return credentialsMissing(missingSecret(f.target))
}

func credentialsMissing(message string) *problem {
	return &problem{
		condition: v1alpha1.ConditionCredentialsReady, reason: v1alpha1.ReasonCredentialsMissing,
		message: message,
	}
}

func missingSecret(target *v1alpha1.ConnectionTarget) string {
	field, name := credentialsOf(target)
	return fmt.Sprintf("the Secret %s of %s does not exist in namespace %s or lacks its label; "+
		"create it, then: kubectl label secret -n %s %s %s=%s",
		name, field, target.Namespace, target.Namespace, name, v1alpha1.CredentialsLabel, v1alpha1.CredentialsLabelValue)
}

// checkKubeconfig checks that the Secret has the key of the kubeconfig. Targets of
// other types have keys with fixed names, which their drivers check.
func checkKubeconfig(f facts, _ Drivers) *problem {
	kubernetes := f.target.Spec.Kubernetes
	if kubernetes == nil {
		return nil
	}
	ref, data := kubernetes.KubeconfigRef, f.path[0].secret.Data
	if _, found := data[ref.Key]; !found {
		return credentialsMissing(fmt.Sprintf("the Secret %s lacks the key %s, which kubernetes.kubeconfigRef.key names; "+
			"put the kubeconfig there or correct the field", ref.Name, ref.Key))
	}
	return nil
}

// checkHostKeys checks that the object which holds the host keys exists and is
// labeled.
func checkHostKeys(f facts, _ Drivers) *problem {
	if f.target.Spec.SSH == nil || f.path[0].knownHosts != nil {
		return nil
	}
	return &problem{
		condition: v1alpha1.ConditionCredentialsReady, reason: v1alpha1.ReasonHostKeysInvalid,
		message: missingHostKeys(f.target),
	}
}

func missingHostKeys(target *v1alpha1.ConnectionTarget) string {
	kind, field, ref := "configmap", "configMapRef", target.Spec.SSH.HostKeys.ConfigMapRef
	if ref == nil {
		kind, field, ref = "secret", "secretRef", target.Spec.SSH.HostKeys.SecretRef
	}
	return fmt.Sprintf("ssh.hostKeys.%s names key %s of %s %s, which does not exist in namespace %s or lacks its label; "+
		"create it, then: kubectl label %s -n %s %s %s=%s", field, ref.Key, kind, ref.Name, target.Namespace,
		kind, target.Namespace, ref.Name, v1alpha1.CredentialsLabel, v1alpha1.CredentialsLabelValue)
}
