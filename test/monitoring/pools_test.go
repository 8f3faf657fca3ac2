package monitoring

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/openssh"
)

// poolName is the name of the pool of each namespace.
const poolName = "web"

// inPool are the labels by which pools select targets.
var inPool = map[string]string{"app": "web"}

func thePool(namespace string) *v1alpha1.ConnectionPool {
	return &v1alpha1.ConnectionPool{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: poolName}}
}

// pool makes a namespace with a pool of so many ssh targets that are one server, and
// waits until it serves through all of them.
func (w *world) pool(t *testing.T, namespace string, targets int, edits ...func(*v1alpha1.ConnectionPool)) *openssh.Server {
	t.Helper()
	w.namespace(t, namespace)
	server := startSSHD(t)
	for i := range targets {
		w.target(t, namespace, fmt.Sprintf("target-%d", i), server)
	}
	pool := thePool(namespace)
	pool.Spec.TargetSelector = &metav1.LabelSelector{MatchLabels: inPool}
	for _, edit := range edits {
		edit(pool)
	}
	w.create(t, pool)
	w.ready(t, namespace, targets)
	return server
}

// sshUser logs in where the tests run as root. What the shell of root sources can take long.
const sshUser = "connpool-monitor"

func startSSHD(t *testing.T) *openssh.Server {
	t.Helper()
	options := openssh.Options{}
	if os.Geteuid() == 0 {
		remove, err := openssh.CreateUser(sshUser)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(remove)
		options.User = sshUser
	}
	server, err := openssh.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// target makes a target of the pool that is an sshd, and its Secret.
func (w *world) target(t *testing.T, namespace, name string, server *openssh.Server) {
	t.Helper()
	host, _, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(server.Addr)
	w.create(t, credentials(namespace, name, server), &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: inPool},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
			Host: host, Port: &port, User: server.User, CredentialsRef: v1alpha1.SecretRef{Name: name},
			HostKeys: v1alpha1.HostKeys{KnownHosts: []string{strings.TrimSpace(server.KnownHosts)}},
		}},
	})
}

// credentials returns the Secret with which a target logs in to a server.
func credentials(namespace, name string, server *openssh.Server) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ssh-privatekey": server.PrivateKey},
	}
}
