package integration

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli"
	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/openssh"
)

// install creates what a kustomization below testdata has.
func install(t *testing.T, folder string) {
	t.Helper()
	if err := env.plane.InstallPolicies(t.Context(), "testdata/"+folder); err != nil {
		t.Fatal(err)
	}
}

// The operator has the rights of config/namespaced and no others: its user can read pools,
// targets, Secrets and ConfigMaps in no namespace that did not give it the Role.
func TestAnOperatorOfSomeNamespacesNeedsNoRightInOthers(t *testing.T) {
	ownControlPlane(t)
	install(t, "namespaced")
	for _, name := range []string{"team-a", "other"} {
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	install(t, "team-a")
	account, err := env.plane.ServiceAccount(t.Context(), controlplane.APINamespace, "connpool-manager")
	if err != nil {
		t.Fatal(err)
	}
	operator := startOwnOperator(t, kubeconfig(t, account, controlplane.APINamespace), "--watch-namespaces=team-a,team-b")
	server := startPlainSSHD(t)
	served, left := declare(t, "team-a", server), declare(t, "other", server)

	t.Run("pools in a watched namespace work, although another one has no Role yet", func(t *testing.T) {
		condition(t, 30*time.Second, served.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
		mayRun(t, served)
	})
	t.Run("the user of the operator may read nothing elsewhere", func(t *testing.T) {
		for _, namespace := range []string{"", "other", "team-b", "kube-system"} {
			for _, resource := range []string{"secrets", "configmaps", "connectionpools.connpool.dev", "connectiontargets.connpool.dev"} {
				refuses(t, account, namespace, resource)
			}
		}
	})
	t.Run("a namespace that is not watched is refused with the next step", func(t *testing.T) {
		code, message := runIn(t, left)
		wants(t, code, http.StatusNotFound, message, "does not watch namespace other", "--watch-namespaces")
		if strings.Contains(message, "team-") {
			t.Errorf("it tells which namespaces are watched: %s", message)
		}
		if conditions := left.pool.Status.Conditions; len(conditions) > 0 {
			t.Errorf("the pool has the status %v", conditions)
		}
	})
	t.Run("the log names the right that is missing, and the namespace", func(t *testing.T) {
		log := operator.LastLines(1000)
		for _, words := range []string{`"namespace":"team-b"`, "lacks rights", "list secrets", "config/namespaced"} {
			if !strings.Contains(log, words) {
				t.Errorf("the log lacks %q:\n%s", words, log)
			}
		}
	})
	t.Run("connections of all namespaces are listed", func(t *testing.T) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(live.GroupVersion.WithKind("ConnectionList"))
		if err := env.client.List(t.Context(), list); err != nil || len(list.Items) == 0 {
			t.Errorf("%d connections, error %v", len(list.Items), err)
		}
	})
	t.Run("sessions can be listed where the namespace controller does", func(t *testing.T) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(live.GroupVersion.WithKind("SessionList"))
		if err := env.client.List(t.Context(), list, client.InNamespace("other")); err != nil || len(list.Items) > 0 {
			t.Errorf("%d sessions, error %v", len(list.Items), err)
		}
	})
	t.Run("status and doctor say so", func(t *testing.T) { theCommandsSaySo(t) })
	t.Run("a namespace is served once it has its Role, without a restart", func(t *testing.T) {
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-b"}})
		late := declare(t, "team-b", server)
		code, message := runIn(t, late)
		wants(t, code, http.StatusServiceUnavailable, message, "may not list connectionpools", "config/namespaced")
		install(t, "team-b")
		condition(t, time.Minute, late.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
		mayRun(t, late)
	})
}

// declare makes a target, its Secret and its pool.
func declare(t *testing.T, space string, server *openssh.Server) fixture {
	t.Helper()
	f := fixture{
		server: server, secret: credentials(space, "web-ssh", server),
		target: target(space, "web", server, "web-ssh"), pool: pool(space, "web", "web"),
	}
	create(t, f.pool, f.target, f.secret)
	return f
}

// runIn runs a command in a pool through kube-apiserver, as an administrator.
func runIn(t *testing.T, f fixture) (code int, message string) {
	t.Helper()
	poster, err := rest.HTTPClientFor(env.config)
	if err != nil {
		t.Fatal(err)
	}
	defer poster.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, execURL(env.config, f), strings.NewReader(`{"spec":{"shell":"true"}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := poster.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text) + errorText(err)
}

func mayRun(t *testing.T, f fixture) {
	t.Helper()
	eventually(t, 30*time.Second, "a command runs in "+f.pool.Namespace, func() (bool, string) {
		code, message := runIn(t, f)
		return code == http.StatusOK, message
	})
}

func wants(t *testing.T, code, want int, message string, words ...string) {
	t.Helper()
	if code != want {
		t.Errorf("answer %d, want %d", code, want)
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the message lacks %q: %s", word, message)
		}
	}
}

// refuses expects that a user may not get, list or watch a resource.
func refuses(t *testing.T, account *rest.Config, namespace, resource string) {
	t.Helper()
	api, err := client.New(account, client.Options{Scheme: env.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	name, group, _ := strings.Cut(resource, ".")
	for _, verb := range []string{"get", "list", "watch"} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: name},
		}}
		if err := api.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			t.Errorf("the operator may %s %s in namespace %q", verb, resource, namespace)
		}
	}
}

func theCommandsSaySo(t *testing.T) {
	t.Helper()
	path := adminKubeconfig(t)
	for _, command := range []string{"status", "doctor", "connections"} {
		var stdout, stderr bytes.Buffer
		cli.Main([]string{"connpool", "--kubeconfig", path, "-n", "other", command}, "test",
			genericiooptions.IOStreams{Out: &stdout, ErrOut: &stderr})
		said := stdout.String() + stderr.String()
		t.Logf("%s:\n%s", command, said)
		if !strings.Contains(said, "does not watch namespace other") || !strings.Contains(said, "--watch-namespaces") {
			t.Errorf("%s does not say that the namespace is not watched", command)
		}
	}
}
