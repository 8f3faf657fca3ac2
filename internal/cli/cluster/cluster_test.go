package cluster

import (
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/connpool/connpool/internal/cli/exit"
)

func TestNearestNames(t *testing.T) {
	known := []string{"web", "web-canary", "db", "build", "worker"}
	tests := map[string]struct {
		word string
		want []string
	}{
		"one letter is wrong":       {"wep", []string{"web"}},
		"the beginning is there":    {"web-c", []string{"web", "web-canary"}},
		"nothing is like it":        {"zzzzzz", []string{}},
		"a letter is missing":       {"buld", []string{"build"}},
		"two letters are swapped":   {"wokrer", []string{"worker"}},
		"an empty word means all 3": {"", []string{"build", "db", "web"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, nearest(test.word, known)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRareFlagsAreThere(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	New("connpool", "", io.Discard).Register(flags)
	for _, name := range rareFlags {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}

func TestARoleIsProposedOnlyWhereItHelps(t *testing.T) {
	for why, want := range map[string]bool{
		`User "alice" cannot create resource "sessions/exec" in API group "live.connpool.dev" in the namespace "team"`: true,
		"only its creator may use a session; create one of your own":                                                   false,
	} {
		err := apierrors.NewForbidden(schema.GroupResource{Group: "live.connpool.dev", Resource: "sessions"}, "s-1", errors.New(why))
		hint := exit.HintOf((&Cluster{}).Explain(t.Context(), err, Asked{Resource: "sessions/exec", Verbs: []string{"create"}, Namespace: "team"}))
		if proposed := strings.Contains(hint, "kind: Role"); proposed != want {
			t.Errorf("%s: the hint is %q", why, hint)
		}
	}
}

// kubeconfig writes one with the lines of its cluster, and returns its path.
func kubeconfig(t *testing.T, cluster string) string {
	t.Helper()
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\n" +
		"contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]\n" +
		"users: [{name: u, user: {token: t}}]\nclusters: [{name: c, cluster: {" + cluster + "}}]\n"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheKubeconfigIsReadOnce(t *testing.T) {
	c := New("connpool", "", io.Discard)
	c.kubeconfig = kubeconfig(t, "server: https://127.0.0.1:1")
	namespace, err := c.Namespace()
	if err != nil || namespace != "shop" {
		t.Fatalf("namespace %q, %v", namespace, err)
	}
	if err := os.Remove(c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	config, err := c.restConfig()
	if err != nil || config.Host != "https://127.0.0.1:1" {
		t.Errorf("the file was read again: %v", err)
	}
}

func TestTheEmbeddedAuthoritiesAreTrustedForAClusterThatNamesNone(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("SSL_CERT_FILE", empty+"/none")
	t.Setenv("SSL_CERT_DIR", empty)
	c := New("connpool", "", io.Discard)
	c.kubeconfig = kubeconfig(t, "server: https://127.0.0.1:1")
	if _, err := c.restConfig(); err != nil {
		t.Fatal(err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if pool.Equal(x509.NewCertPool()) {
		t.Error("no authority is trusted")
	}
}
