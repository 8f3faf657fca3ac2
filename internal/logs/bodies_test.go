package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// secretServer answers every request with a list of one Secret.
func secretServer(t *testing.T, secret string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"SecretList","apiVersion":"v1","items":[{"metadata":{"name":"s"},"data":{"password":"` +
			base64.StdEncoding.EncodeToString([]byte(secret)) + `"}}]}`))
	}))
	t.Cleanup(server.Close)
	return server
}

func TestBodiesOfSecretsAreNotLoggedAtAnyLevel(t *testing.T) {
	const secret = "canary-of-a-secret"
	server := secretServer(t, secret)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	logged := func(change func(logr.Logger) logr.Logger) string {
		var log bytes.Buffer
		logger := change(zap.New(zap.WriteTo(&log), zap.Level(zapcore.Level(-10)))).WithName("test").WithValues("a", "b")
		ctx := logr.NewContext(t.Context(), logger)
		if _, err := client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		_, _ = client.CoreV1().Secrets("team").Create(ctx, &corev1.Secret{Data: map[string][]byte{"p": []byte(secret)}}, metav1.CreateOptions{})
		logger.Info("an ordinary line")
		return log.String()
	}
	shows := func(text string) bool {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))[:16]} {
			if strings.Contains(strings.ReplaceAll(text, " ", ""), form) {
				return true
			}
		}
		return false
	}
	if plain := logged(func(l logr.Logger) logr.Logger { return l }); !shows(plain) {
		t.Errorf("client-go logs no bodies any more, so this can go: %s", plain)
	}
	text := logged(WithoutBodies)
	if shows(text) || !strings.Contains(text, "an ordinary line") || !strings.Contains(text, `"logger":"test"`) {
		t.Errorf("the log is %s", text)
	}
}
