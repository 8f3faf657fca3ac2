package fleet

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
)

// A controller takes a 401 for an end, and a 503 for something that passes.
func TestARestartOfTheOperatorIsNoRefusal(t *testing.T) {
	m := manage(t, "restarted")
	config := m.manager(t)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	m.answers(t)
	restart(t)
	seen := map[int]int{}
	err = wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		status, body := ask(ctx, t, client, config.Host+"/version")
		seen[status]++
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("%d %s", status, body)
		}
		return status == http.StatusOK, nil
	})
	if err != nil {
		t.Error("the cluster does not answer again")
	}
	t.Logf("answers by status: %v", seen)
}

func ask(ctx context.Context, t *testing.T, client *http.Client, address string, header ...string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Error(err)
	}
	return answer.StatusCode, string(text)
}

func TestWatchesThroughAPoolEndAsThoseOfTheClusterItself(t *testing.T) {
	m := manage(t, "ending")
	config := m.manager(t)
	through, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	m.answers(t)
	t.Run("after their timeout", func(t *testing.T) {
		began := time.Now()
		events := watchConfigMaps(t, through, metav1.ListOptions{TimeoutSeconds: new(int64(1))})
		for event := range events {
			if event.Type == watch.Error {
				t.Errorf("an error: %v", event.Object)
			}
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
	t.Run("with 410 Gone when their beginning is forgotten", func(t *testing.T) {
		// The API server remembers no change of a kind from before the kind was made.
		if err := env.spoke.InstallCRDs(t.Context(), filepath.Join(checkout, "config", "crd", "bases")); err != nil {
			t.Fatal(err)
		}
		all, err := dynamic.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		watching, err := all.Resource(v1alpha1.SchemeGroupVersion.WithResource("connectiontargets")).Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
		if err != nil {
			t.Fatal(err)
		}
		defer watching.Stop()
		event := <-watching.ResultChan()
		if err := apierrors.FromObject(event.Object); event.Type != watch.Error || !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("got %v %v", event.Type, event.Object)
		}
	})
}

func watchConfigMaps(t *testing.T, in kubernetes.Interface, options metav1.ListOptions) <-chan watch.Event {
	t.Helper()
	watching, err := in.CoreV1().ConfigMaps(metav1.NamespaceAll).Watch(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watching.Stop)
	return watching.ResultChan()
}

func TestAPoolWithoutRoomForAWatchSaysSo(t *testing.T) {
	m := manage(t, "crowded", func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.Size.Max, spec.SessionsPerConnection = new(int32(1)), new(int32(2))
		spec.Acquire.TimeoutSeconds = new(int32(1))
	})
	config := m.manager(t)
	through, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	m.answers(t)
	for range 2 {
		watchConfigMaps(t, through, metav1.ListOptions{})
	}
	_, err = through.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "sessionsPerConnection") {
		t.Errorf("the refusal does not name the setting: %v", err)
	}
}

// What discovery, apply and validation of the tools ask for.
func TestDocumentsOfAClusterComeThroughAPool(t *testing.T) {
	m := manage(t, "described")
	config := m.manager(t)
	config.DisableCompression = true // so that the header below is the test's own
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	m.answers(t)
	for name, c := range map[string]struct {
		path, accept, begins string
	}{
		"discovery, aggregated": {"/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", `{"kind":"APIGroupDiscoveryList"`},
		"OpenAPI v2":            {"/openapi/v2", "application/json", `{"swagger":"2.0"`},
		"OpenAPI v2, protobuf":  {"/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "\n\x032.0"},
		"OpenAPI v3":            {"/openapi/v3", "application/json", `{"paths":`},
		"OpenAPI v3 of a group": {"/openapi/v3/apis/apps/v1", "application/json", `{"openapi":"3.0`},
		"a list, protobuf":      {"/api/v1/namespaces", "application/vnd.kubernetes.protobuf", "k8s\x00"},
		"a table":               {"/api/v1/namespaces", "application/json;as=Table;v=v1;g=meta.k8s.io", `{"kind":"Table"`},
	} {
		t.Run(name, func(t *testing.T) {
			if status, body := ask(t.Context(), t, client, config.Host+c.path, "Accept", c.accept); status != http.StatusOK || !strings.HasPrefix(body, c.begins) {
				t.Errorf("got %d %.60q", status, body)
			}
		})
	}
	t.Run("compressed", func(t *testing.T) {
		if status, body := ask(t.Context(), t, client, config.Host+"/openapi/v2", "Accept-Encoding", "gzip"); status != http.StatusOK || !strings.HasPrefix(body, "\x1f\x8b") {
			t.Errorf("got %d %.60q", status, body)
		}
	})
}
