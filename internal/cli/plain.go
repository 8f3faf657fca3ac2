package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// maxPlainAnswer bounds an answer. Discovery documents and lists of namespaces
// are far below it.
const maxPlainAnswer = 16 << 20

// plainClient asks the cluster for a few objects of other people's APIs, as
// JSON, without their generated clients.
type plainClient struct {
	http *http.Client
	base string
}

func (f *factory) plain() (plainClient, error) {
	config, err := f.restConfig()
	if err != nil {
		return plainClient{}, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return plainClient{}, noCluster(err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return plainClient{}, noCluster(err)
	}
	return plainClient{http: client, base: strings.TrimSuffix(base.String(), "/")}, nil
}

func (c plainClient) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// post sends an object and reads what became of it into the same.
func (c plainClient) post(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, body, object)
}

func (c plainClient) do(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxPlainAnswer))
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return refusal(response.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

// whoAmI is the name that the cluster knows us by.
func (c plainClient) whoAmI(ctx context.Context) (string, error) {
	type review struct {
		metav1.TypeMeta `json:",inline"`

		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status,omitzero"`
	}
	who := review{TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"}}
	err := c.post(ctx, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &who)
	return who.Status.UserInfo.Username, err
}

// refusal is an error like those of the other clients.
func refusal(code int, answer []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(answer, &status); err == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", string(bytes.TrimSpace(answer)), 0, true)
}
