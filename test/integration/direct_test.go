package integration

import (
	"context"
	"net"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	goclient "github.com/connpool/connpool/client"
	"github.com/connpool/connpool/client/direct"
)

// inCluster connects to the operator by the name of its Service, as pods do.
func inCluster(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, env.live)
}

// maySeeAPIService lets a ServiceAccount get the APIService.
func maySeeAPIService(t *testing.T, namespace, account string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: namespace + "-" + account}
	create(t, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{direct.APIServices.Group}, Resources: []string{direct.APIServices.Resource},
		ResourceNames: []string{direct.APIService}, Verbs: []string{"get"},
	}}}, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	})
}

func TestTheOperatorIsFoundPastKubeAPIServer(t *testing.T) {
	makeSSHUser(t)
	f := warm(t, startPlainSSHD(t), manySessions)
	space := f.pool.Namespace
	// Only create: a WebSocket through kube-apiserver would need get, too.
	account := permit(t, space, "job", execRule([]string{"create"}))
	finder := direct.Finder{Dial: inCluster}
	if _, err := finder.Find(t.Context(), account); !apierrors.IsForbidden(err) {
		t.Errorf("without the right to get the APIService: %v", err)
	}
	maySeeAPIService(t, space, "job")
	certified := rest.CopyConfig(env.config)
	for name, config := range map[string]*rest.Config{"a token": account, "a client certificate": certified} {
		var found *rest.Config
		eventually(t, 20*time.Second, name, func() (bool, string) {
			var err error
			found, err = finder.Find(t.Context(), config)
			return err == nil, errorText(err)
		})
		c, err := goclient.New(found)
		if err != nil {
			t.Fatal(err)
		}
		pool := c.Pool(space, f.pool.Name)
		eventually(t, 20*time.Second, "a command with "+name, func() (bool, string) {
			result, err := pool.Exec(t.Context(), goclient.Command{Argv: []string{"true"}})
			return err == nil && result.ExitCode == 0, errorText(err)
		})
		if err := c.Connect(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := pool.Stream(t.Context(), goclient.Command{Argv: []string{"true"}}, goclient.Streams{}); err != nil {
			t.Errorf("a stream with %s: %v", name, err)
		}
		c.CloseIdleConnections()
	}
	stranger := rest.CopyConfig(account)
	stranger.BearerToken = "none of this cluster"
	if _, err := finder.Find(t.Context(), stranger); !apierrors.IsUnauthorized(err) {
		t.Errorf("a user whom the cluster does not know: %v", err)
	}
}
