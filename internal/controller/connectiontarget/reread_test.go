package connectiontarget

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

// reads is an API server with one Secret, which counts the reads.
type reads struct {
	client.Reader
	secret *corev1.Secret
	n      int
}

func (r *reads) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	r.n++
	r.secret.DeepCopyInto(object.(*corev1.Secret))
	return nil
}

func secretOf(version string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name: "token", ResourceVersion: version, Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
	}}
}

func TestARefusedSecretIsReadPastTheCacheMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &reads{secret: secretOf("1")}
		g := gatherer{server: api, uncached: &sync.Map{}}
		reconcileFor := func(d time.Duration, cached string, refused bool) (n int, newest *corev1.Secret) {
			before := api.n
			for range d / time.Second {
				newest = g.newest(t.Context(), "uid", secretOf(cached), refused)
				time.Sleep(time.Second)
			}
			return api.n - before, newest
		}
		if n, _ := reconcileFor(time.Minute, "1", true); n != 3 {
			t.Errorf("%d reads in the first minute, want 3: after 0, 10 and 30 s", n)
		}
		if n, _ := reconcileFor(time.Hour, "1", true); n > 16 {
			t.Errorf("%d reads in the next hour, want 16 at most", n)
		}
		if n, _ := reconcileFor(time.Hour, "1", false); n != 0 {
			t.Errorf("%d reads of a Secret that is not refused", n)
		}
		api.secret = secretOf("2")
		n, newest := reconcileFor(15*time.Second, "1", true)
		if n == 0 || newest.ResourceVersion != "2" {
			t.Errorf("%d reads, version %s; want the new one at once", n, newest.ResourceVersion)
		}
		if n, _ := reconcileFor(25*time.Second, "2", true); n == 0 {
			t.Error("another version that is refused, too, is not read again soon")
		}
	})
}
