package hostile

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

func TestProfilesAreServedAtTheirOwnAddressOnly(t *testing.T) {
	const path = "/debug/pprof/heap?debug=1"
	eventually(t, 30*time.Second, "profiles are served", func(ctx context.Context) (bool, string) {
		status, text := get(ctx, http.DefaultClient, "http://"+env.profiles+path)
		return status == http.StatusOK && strings.HasPrefix(text, "heap profile:"), text
	})
	stranger := httpClient(t, directly(t, &rest.Config{}))
	for name, address := range map[string]string{"metrics": env.metrics, "live API": env.address} {
		if status, text := get(t.Context(), stranger, "https://"+address+path); status < http.StatusBadRequest || strings.Contains(text, "heap profile") {
			t.Errorf("the port of the %s answers %d %s", name, status, text)
		}
	}
}

func get(ctx context.Context, user *http.Client, url string) (status int, text string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	answer, err := user.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, string(body)
}
