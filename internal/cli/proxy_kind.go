package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// apiKind is what a target's API is.
type apiKind string

const (
	apiDocker     apiKind = "docker"
	apiKubernetes apiKind = "kubernetes"
)

// kindOf asks the target for its version, which tells what it is, and whether it
// can be reached at all, before anything depends on it.
func kindOf(ctx context.Context, api http.RoundTripper) (apiKind, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://target/version", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := api.RoundTrip(request)
	if err != nil {
		return "", hinted(fmt.Errorf("ask the target for its version: %w", err), "%s", checkCluster)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPlainAnswer))
	if err != nil {
		return "", fmt.Errorf("read the version of the target: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", refusal(response.StatusCode, body)
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
