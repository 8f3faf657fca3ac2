package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// MaxAnswer bounds an answer, in bytes. Usual answers are far below it.
const MaxAnswer = 16 << 20

// answerTimeout bounds each answer.
const answerTimeout = 10 * time.Second

// Plain asks for a few objects of other APIs, as JSON.
type Plain struct {
	http *http.Client
	base string
}

// Plain returns a client of all other APIs of the cluster.
func (c *Cluster) Plain() (Plain, error) {
	config, err := c.restConfig()
	if err != nil {
		return Plain{}, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return Plain{}, c.noCluster(err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return Plain{}, c.noCluster(err)
	}
	return Plain{http: client, base: strings.TrimSuffix(base.String(), "/")}, nil
}

// URL returns where the cluster is.
func (p Plain) URL() string { return p.base }

// Get reads the object at a path.
func (p Plain) Get(ctx context.Context, path string, into any) error {
	return p.do(ctx, plainRequest{method: http.MethodGet, path: path}, into)
}

// Post sends an object and reads the answer into it.
func (p Plain) Post(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return p.do(ctx, plainRequest{http.MethodPost, path, "application/json", body}, object)
}

// plainRequest is a request and, unless its body is nil, the type of that.
type plainRequest struct {
	method, path, contentType string
	body                      []byte
}

func (p Plain) do(ctx context.Context, asked plainRequest, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, asked.method, p.base+asked.path, bytes.NewReader(asked.body))
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	if asked.body != nil {
		request.Header.Set("Content-Type", asked.contentType)
	}
	response, err := p.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", asked.path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return Refusal(response.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", asked.path, err)
	}
	return nil
}

// WhoAmI returns the name by which the cluster knows the user.
func (p Plain) WhoAmI(ctx context.Context) (string, error) {
	type review struct {
		metav1.TypeMeta `json:",inline"`

		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status,omitzero"`
	}
	who := review{TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"}}
	err := p.Post(ctx, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &who)
	return who.Status.UserInfo.Username, err
}

// Refusal returns the error for an answer, like those of the other clients.
func Refusal(code int, answer []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(answer, &status); err == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", string(bytes.TrimSpace(answer)), 0, true)
}

// liveOpenAPI describes the live API. It is the one document of the operator that
// kube-apiserver passes on and that carries a version.
const liveOpenAPI = "/openapi/v3/apis/" + livev1alpha1.GroupName + "/v1alpha1"

// OperatorVersion asks the operator for its version.
func (p Plain) OperatorVersion(ctx context.Context) (string, error) {
	var document struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if err := p.Get(ctx, liveOpenAPI, &document); err != nil {
		return "", err
	}
	return cmp.Or(document.Info.Version, "unknown"), nil
}
