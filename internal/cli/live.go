package cli

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// pageOfConnections is how many connections are asked for at a time.
const pageOfConnections = 500

// live is a client of the live API.
func (f *factory) live() (*client.Client, error) {
	config, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	live, err := client.New(config)
	if err != nil {
		return nil, noCluster(err)
	}
	return live, nil
}

// allConnections asks for all pages of a list.
func allConnections(
	ctx context.Context, live *client.Client, namespace string, options metav1.ListOptions,
) (*livev1alpha1.ConnectionList, error) {
	all := &livev1alpha1.ConnectionList{}
	options.Limit = pageOfConnections
	for {
		page, err := live.Connections(ctx, namespace, options)
		if err != nil {
			return nil, err
		}
		all.Items = append(all.Items, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			return all, nil
		}
	}
}
