package connectiontarget

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// maxJumps is how many jump hosts a path may have.
const maxJumps = 3

// facts are all that the decision depends on.
type facts struct {
	// now is when the facts were gathered.
	now    time.Time
	target *v1alpha1.ConnectionTarget
	// pools are the pools that select the target, in the order of their names.
	pools []v1alpha1.ConnectionPool
	// onlyJumpHost says that no pool selects the target, but a pool selects a target
	// that is reached through it.
	onlyJumpHost bool
	// path is the target itself and then its jump hosts, the one nearest to the target
	// first. It ends at the first element that does not exist, repeats an earlier one,
	// is not of type ssh, or is one jump host too many.
	path []pathElement
}

// pathElement is the target or one of its jump hosts.
type pathElement struct {
	name string
	// target is nil when it does not exist.
	target *v1alpha1.ConnectionTarget
	// secret is nil when it does not exist or is not labeled, and when the target
	// needs no Secret.
	secret *corev1.Secret
	// knownHosts of an ssh target are nil when their ConfigMap, Secret or key does
	// not exist.
	knownHosts []byte
	// cluster is what the kubeconfig of a kubernetes target says.
	cluster cluster
}

// gather reads the facts from the cache. It fails only if the cache does. An object
// that does not exist is a fact.
func (r *Reconciler) gather(ctx context.Context, target *v1alpha1.ConnectionTarget) (facts, error) {
	var all v1alpha1.ConnectionPoolList
	if err := r.Client.List(ctx, &all, client.InNamespace(target.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return facts{}, fmt.Errorf("list pools: %w", err)
	}
	f := facts{now: time.Now(), target: target, pools: selectors(all.Items, target)}
	f.onlyJumpHost = len(f.pools) == 0 && r.isJumpHost(ctx, target, all.Items)
	var err error
	f.path, err = r.path(ctx, target)
	return f, err
}

// selectors returns the pools that select the target, in the order of their names.
func selectors(all []v1alpha1.ConnectionPool, target *v1alpha1.ConnectionTarget) []v1alpha1.ConnectionPool {
	var pools []v1alpha1.ConnectionPool
	for i := range all {
		if all[i].Selects(target) {
			pools = append(pools, all[i])
		}
	}
	slices.SortFunc(pools, func(a, b v1alpha1.ConnectionPool) int { return cmp.Compare(a.Name, b.Name) })
	return pools
}

// isJumpHost reports whether one of the pools selects a target that is reached
// through this one.
func (r *Reconciler) isJumpHost(ctx context.Context, target *v1alpha1.ConnectionTarget, pools []v1alpha1.ConnectionPool) bool {
	return slices.ContainsFunc(r.dependents(ctx, target), func(other v1alpha1.ConnectionTarget) bool {
		return slices.ContainsFunc(pools, func(pool v1alpha1.ConnectionPool) bool { return pool.Selects(&other) })
	})
}

// path follows the references to jump hosts from the target on.
func (r *Reconciler) path(ctx context.Context, target *v1alpha1.ConnectionTarget) ([]pathElement, error) {
	var path []pathElement
	for next := target; ; {
		here, err := r.pathElement(ctx, next)
		if err != nil {
			return nil, err
		}
		path = append(path, here)
		_, ref := jumpRef(next)
		if ref == nil || len(path) > maxJumps+1 || visited(path[:len(path)-1], next.Name) {
			return path, nil
		}
		next = &v1alpha1.ConnectionTarget{}
		found, err := r.get(ctx, target.Namespace, ref.Name, next)
		if err != nil {
			return nil, err
		}
		if !found {
			return append(path, pathElement{name: ref.Name}), nil
		}
		if next.Spec.SSH == nil {
			return append(path, pathElement{name: ref.Name, target: next}), nil
		}
	}
}

// jumpRef returns the reference to the ssh target through which a target is reached,
// nil if it is reached directly, and the name of the field.
func jumpRef(target *v1alpha1.ConnectionTarget) (field string, ref *v1alpha1.TargetRef) {
	switch spec := target.Spec; {
	case spec.SSH != nil:
		return "ssh.jumpTargetRef", spec.SSH.JumpTargetRef
	case spec.Docker != nil:
		return "docker.sshTargetRef", spec.Docker.SSHTargetRef
	}
	return "", nil
}

func visited(path []pathElement, name string) bool {
	return slices.ContainsFunc(path, func(e pathElement) bool { return e.name == name })
}

// pathElement reads the objects that a target refers to.
func (r *Reconciler) pathElement(ctx context.Context, target *v1alpha1.ConnectionTarget) (pathElement, error) {
	here := pathElement{name: target.Name, target: target}
	var err error
	if _, name := credentialsOf(target); name != "" {
		here.secret, err = r.secret(ctx, target, name)
	}
	if err != nil {
		return pathElement{}, err
	}
	switch spec := target.Spec; {
	case spec.SSH != nil:
		here.knownHosts, err = r.knownHosts(ctx, target)
	case spec.Kubernetes != nil && here.secret != nil:
		here.cluster = readCluster(here.secret.Data[spec.Kubernetes.KubeconfigRef.Key], ptr.Deref(spec.Kubernetes.Context, ""))
	}
	return here, err
}

// credentialsOf returns the name of the Secret that a target authenticates with,
// empty if it needs none, and the name of the field.
func credentialsOf(target *v1alpha1.ConnectionTarget) (field, name string) {
	switch spec := target.Spec; {
	case spec.SSH != nil:
		return "ssh.credentialsRef", spec.SSH.CredentialsRef.Name
	case spec.Docker != nil && spec.Docker.TLSRef != nil:
		return "docker.tlsRef", spec.Docker.TLSRef.Name
	case spec.Kubernetes != nil:
		return "kubernetes.kubeconfigRef", spec.Kubernetes.KubeconfigRef.Name
	}
	return "", ""
}

// secret returns a Secret of a target; nil when it does not exist or is not labeled.
func (r *Reconciler) secret(ctx context.Context, target *v1alpha1.ConnectionTarget, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	found, err := r.get(ctx, target.Namespace, name, secret)
	if err != nil || !found || !isLabeled(secret) {
		return nil, err
	}
	return r.freshSecret(ctx, target, secret), nil
}

func (r *Reconciler) knownHosts(ctx context.Context, target *v1alpha1.ConnectionTarget) ([]byte, error) {
	keys := target.Spec.SSH.HostKeys
	switch {
	case keys.ConfigMapRef != nil:
		configMap := &corev1.ConfigMap{}
		found, err := r.get(ctx, target.Namespace, keys.ConfigMapRef.Name, configMap)
		if value, ok := configMap.Data[keys.ConfigMapRef.Key]; found && ok && isLabeled(configMap) {
			return []byte(value), err
		}
		return nil, err
	case keys.SecretRef != nil:
		secret := &corev1.Secret{}
		found, err := r.get(ctx, target.Namespace, keys.SecretRef.Name, secret)
		if value, ok := secret.Data[keys.SecretRef.Key]; found && ok && isLabeled(secret) {
			return value, err
		}
		return nil, err
	}
	return []byte(strings.Join(keys.KnownHosts, "\n") + "\n"), nil
}

// isLabeled reports whether targets may use the object. The cache holds labeled
// objects only. This check does not depend on how the cache is configured.
func isLabeled(object client.Object) bool {
	return object.GetLabels()[v1alpha1.CredentialsLabel] == v1alpha1.CredentialsLabelValue
}

// get reads an object and reports whether it exists.
func (r *Reconciler) get(ctx context.Context, namespace, name string, object client.Object) (bool, error) {
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return err == nil, nil
}
