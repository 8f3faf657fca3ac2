package cluster

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// ConnectionsPerPage is how many connections one request asks for.
const ConnectionsPerPage = 500

// ConnectionStates are the states of a connection, in the order of their lives.
var ConnectionStates = []string{
	string(livev1alpha1.ConnectionIdle), string(livev1alpha1.ConnectionInUse), string(livev1alpha1.ConnectionDraining),
}

// AllConnections reads a list of connections page by page, to its end.
func AllConnections(
	ctx context.Context, live *client.Client, namespace string, options metav1.ListOptions,
) (*livev1alpha1.ConnectionList, error) {
	all := &livev1alpha1.ConnectionList{}
	options.Limit = ConnectionsPerPage
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

// SessionNames returns the names of the sessions that have not ended.
func SessionNames(ctx context.Context, live *client.Client, namespace string) ([]string, error) {
	list, err := live.Sessions(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return Names(slices.DeleteFunc(list.Items, func(s livev1alpha1.Session) bool {
		return s.Status.State == livev1alpha1.SessionEnded
	})), nil
}
