package client

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestResources(t *testing.T) {
	const root = "/apis/live.connpool.dev/v1alpha1"
	tests := map[string]struct {
		call   func(*testing.T, *Client) (any, error)
		path   string
		method string
		query  url.Values
		answer any
		want   any
	}{
		"connections of a namespace, selected": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				list, err := c.Connections(t.Context(), "shop", metav1.ListOptions{
					LabelSelector: "a=b", FieldSelector: live.FieldPool + "=web", Limit: 5, Continue: "next",
				})
				return list.Items[0].Name, err
			},
			root + "/namespaces/shop/connections", http.MethodGet,
			url.Values{"labelSelector": {"a=b"}, "fieldSelector": {"pool=web"}, "limit": {"5"}, "continue": {"next"}},
			&live.ConnectionList{Items: []live.Connection{{ObjectMeta: metav1.ObjectMeta{Name: "c-1"}}}}, "c-1",
		},
		"connections of all namespaces": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				list, err := c.Connections(t.Context(), "", metav1.ListOptions{})
				return len(list.Items), err
			},
			root + "/connections", http.MethodGet,
			url.Values{},
			&live.ConnectionList{}, 0,
		},
		"uses of a namespace, selected": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				list, err := c.Uses(t.Context(), "shop", metav1.ListOptions{FieldSelector: live.FieldUser + "=bob", Limit: 5, Continue: "next"})
				return list.Items[0].User, err
			},
			root + "/namespaces/shop/uses", http.MethodGet,
			url.Values{"fieldSelector": {"user=bob"}, "limit": {"5"}, "continue": {"next"}},
			&live.UseList{Items: []live.Use{{User: "bob"}}}, "bob",
		},
		"drain of a pool": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				return c.Pool("shop", "web").Drain(t.Context())
			},
			root + "/namespaces/shop/connectionpools/web/drain", http.MethodPost,
			url.Values{},
			&live.Drain{Status: live.DrainStatus{Connections: 3}}, 3,
		},
		"drain of a connection": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				return nil, c.DrainConnection(t.Context(), "shop", "c-1")
			},
			root + "/namespaces/shop/connections/c-1/drain", http.MethodPost,
			url.Values{},
			&live.Drain{}, nil,
		},
		"check of a target": {
			func(t *testing.T, c *Client) (any, error) {
				t.Helper()
				check, err := c.Check(t.Context(), "shop", "web-1")
				return check.Status.Ready, err
			},
			root + "/namespaces/shop/connectiontargets/web-1/check", http.MethodPost,
			url.Values{},
			&live.Check{Status: live.CheckStatus{Ready: true}}, true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, true, func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path != test.path || r.Method != test.method {
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
				if diff := cmp.Diff(test.query, r.URL.Query()); diff != "" {
					t.Error(diff)
				}
				answer(rw, http.StatusOK, test.answer)
			})
			got, err := test.call(t, w.client(t))
			if err != nil || !cmp.Equal(got, test.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestResourcesSayWhyNot(t *testing.T) {
	w := newFixture(t, true, func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusForbidden, failure(403, metav1.StatusReasonForbidden, "no"))
	})
	if _, err := w.client(t).Check(t.Context(), "shop", "web-1"); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if _, err := w.client(t).Check(t.Context(), "shop", ".."); err == nil || apierrors.IsForbidden(err) {
		t.Errorf("asked for a name that is none: %v", err)
	}
}
