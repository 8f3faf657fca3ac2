package sshhost

import (
	"bytes"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// Target is what an ssh target declares.
type Target struct {
	Name, Namespace string
	Address
	// Secret to log in with.
	Secret string
	// Jump is the name of the target that is its jump host; "" for none.
	Jump     string
	HostKeys v1alpha1.HostKeys
	Labels   map[string]string
}

// Object returns the ConnectionTarget.
func (t *Target) Object() *v1alpha1.ConnectionTarget {
	spec := &v1alpha1.SSHTarget{
		Host: t.Host, User: t.User, HostKeys: t.HostKeys, CredentialsRef: v1alpha1.SecretRef{Name: t.Secret},
	}
	if t.Port != DefaultPort {
		spec.Port = new(int32(t.Port))
	}
	if t.Jump != "" {
		spec.JumpTargetRef = &v1alpha1.TargetRef{Name: t.Jump}
	}
	return &v1alpha1.ConnectionTarget{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ConnectionTarget"},
		ObjectMeta: metav1.ObjectMeta{Name: t.Name, Namespace: t.Namespace, Labels: t.Labels},
		Spec:       v1alpha1.ConnectionTargetSpec{SSH: spec},
	}
}

// poolLabel begins the label by which the pools made here select their targets. Each
// pool has a label of its own, so that a target may be in several.
const poolLabel = "pool.connpool.dev/"

// PoolLabel returns the label of the targets of a pool.
func PoolLabel(pool string) map[string]string { return map[string]string{poolLabel + pool: "true"} }

// PoolOfOne returns a pool of one target.
func PoolOfOne(name, namespace, target string) *v1alpha1.ConnectionPool {
	return newPool(name, namespace, v1alpha1.ConnectionPoolSpec{TargetRef: &v1alpha1.TargetRef{Name: target}})
}

// PoolOfMany returns a pool of all targets with its label.
func PoolOfMany(name, namespace string) *v1alpha1.ConnectionPool {
	selector := &metav1.LabelSelector{MatchLabels: PoolLabel(name)}
	return newPool(name, namespace, v1alpha1.ConnectionPoolSpec{TargetSelector: selector})
}

func newPool(name, namespace string, spec v1alpha1.ConnectionPoolSpec) *v1alpha1.ConnectionPool {
	return &v1alpha1.ConnectionPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ConnectionPool"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       spec,
	}
}

// Write prints objects: as documents of YAML, or as a List of JSON.
func Write(out io.Writer, output plugin.Output, objects []runtime.Object) error {
	if output.Form == plugin.JSON {
		return output.Encode(out, map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	}
	output.Form = plugin.YAML
	for i, object := range objects {
		var text bytes.Buffer
		if err := output.Encode(&text, object); err != nil {
			return err
		}
		separator := "---\n"
		if i == 0 {
			separator = ""
		}
		if _, err := fmt.Fprint(out, separator, text.String()); err != nil {
			return err
		}
	}
	return nil
}
