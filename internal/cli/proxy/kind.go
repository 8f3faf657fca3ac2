package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
)

// apiKind is what a target's API is.
type apiKind string

const (
	apiDocker     apiKind = "docker"
	apiKubernetes apiKind = "kubernetes"
)

// kindOf asks the target for its version. The answer shows what the target is, and
// that it can be reached, before a tool depends on it.
func kindOf(ctx context.Context, api http.RoundTripper) (apiKind, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://target/version", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := api.RoundTrip(request)
	if err != nil {
		return "", exit.Hint(fmt.Errorf("ask the target for its version: %w", err), "%s", cluster.CheckCluster)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, cluster.MaxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the version of the target: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", cluster.Refusal(response.StatusCode, body)
	}
	var version struct {
		Docker     string `json:"ApiVersion"`
		Kubernetes string `json:"gitVersion"`
	}
	switch err := json.Unmarshal(body, &version); {
	case err == nil && version.Docker != "":
		return apiDocker, nil
	case err == nil && version.Kubernetes != "":
		return apiKubernetes, nil
	}
	return "", errors.New("the target answers neither as a Docker engine nor as a cluster")
}
