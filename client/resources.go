package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Connections lists the warm connections in a namespace, or in all of them if it
// is empty. Of the options, the selectors, limit and continue apply. The fields to
// select by are live.FieldPool and its neighbors. The first page has the counts of
// pools by target. Errors are those of the API, for
// the apierrors functions.
func (c *Client) Connections(ctx context.Context, namespace string, options metav1.ListOptions) (*live.ConnectionList, error) {
	query := queryOf(map[string]string{
		"labelSelector": options.LabelSelector, "fieldSelector": options.FieldSelector, "continue": options.Continue,
	})
	if options.Limit > 0 {
		query.Set("limit", strconv.FormatInt(options.Limit, 10))
	}
	return list[live.ConnectionList](ctx, c, namespace, "connections", query)
}

// Uses lists who uses and has used the pools of a namespace, or of all namespaces if it is
// empty, the newest first. Of the options, fieldSelector, limit and continue apply. The
// fields to select by are live.FieldPool and its neighbors. The operator keeps the newest
// uses of each namespace in memory. Errors are those of the API, for the apierrors
// functions.
func (c *Client) Uses(ctx context.Context, namespace string, options metav1.ListOptions) (*live.UseList, error) {
	query := queryOf(map[string]string{"fieldSelector": options.FieldSelector, "continue": options.Continue})
	if options.Limit > 0 {
		query.Set("limit", strconv.FormatInt(options.Limit, 10))
	}
	return list[live.UseList](ctx, c, namespace, "uses", query)
}

// list reads the objects of a resource in a namespace, or in all of them.
func list[L any](ctx context.Context, c *Client, namespace, resource string, query url.Values) (*L, error) {
	if namespace != "" {
		if err := checkNames(namespace); err != nil {
			return nil, err
		}
	}
	u := c.resource(namespace, resource)
	u.RawQuery = query.Encode()
	objects := new(L)
	if err := c.call(ctx, http.MethodGet, u, nil, objects); err != nil {
		return nil, err
	}
	return objects, nil
}

// queryOf returns a query of the values that are not empty.
func queryOf(values map[string]string) url.Values {
	query := url.Values{}
	for name, value := range values {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// Drain replaces every connection of the pool by a fresh one, and closes the old
// ones after their last use. It does not wait for that, and returns how many
// connections it drains.
func (p *Pool) Drain(ctx context.Context) (int, error) {
	return p.client.drain(ctx, p.namespace, "connectionpools", p.name)
}

// DrainConnection does for one connection what Pool.Drain does for all.
func (c *Client) DrainConnection(ctx context.Context, namespace, name string) error {
	_, err := c.drain(ctx, namespace, "connections", name)
	return err
}

func (c *Client) drain(ctx context.Context, namespace, resource, name string) (int, error) {
	if err := checkNames(namespace, name); err != nil {
		return 0, err
	}
	drain := &live.Drain{TypeMeta: typeMeta("Drain")}
	err := c.call(ctx, http.MethodPost, c.resource(namespace, resource, name, "drain"), drain, drain)
	return int(drain.Status.Connections), err
}

// List lists what commands through the pool can name: its targets, or the containers or
// pods of one of them. It needs the same permission as Exec, and runs nothing. Its status
// says whether there are more than it holds.
func (p *Pool) List(ctx context.Context, spec live.ListingSpec) (*live.Listing, error) {
	u, err := p.url("exec")
	if err != nil {
		return nil, err
	}
	listing := &live.Listing{TypeMeta: typeMeta("Listing"), Spec: spec}
	if err := p.client.call(ctx, http.MethodPost, u, listing, listing); err != nil {
		return nil, err
	}
	return listing, nil
}

// Check dials a target once, beside its pools, and reports stage by stage. That a
// target does not answer is a result and not an error: see CheckStatus.
func (c *Client) Check(ctx context.Context, namespace, target string) (*live.Check, error) {
	if err := checkNames(namespace, target); err != nil {
		return nil, err
	}
	check := &live.Check{TypeMeta: typeMeta("Check")}
	u := c.resource(namespace, "connectiontargets", target, "check")
	if err := c.call(ctx, http.MethodPost, u, check, check); err != nil {
		return nil, err
	}
	return check, nil
}
