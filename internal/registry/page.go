package registry

import (
	"encoding/base64"
	"slices"
	"strings"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/list"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// page says which part of a list is wanted.
type page struct {
	// limit is how many items it may have; 0 for all.
	limit int
	// after is the last item of the page before; the zero value comes before every
	// connection.
	after position
}

// position is where a connection is in a list. Continue tokens have it; clients must
// not read anything into them.
type position struct{ namespace, name string }

func pageOf(options *metainternalversion.ListOptions) (page, error) {
	if options == nil {
		return page{}, nil
	}
	wanted := page{limit: int(max(0, options.Limit))}
	if options.Continue == "" {
		return wanted, nil
	}
	after, err := readToken(options.Continue)
	wanted.after = after
	return wanted, err
}

func readToken(token string) (after position, err error) {
	data, err := base64.RawURLEncoding.DecodeString(token)
	namespace, name, found := strings.Cut(string(data), "/")
	if err != nil || !found {
		return after, refusal.New(refusal.BadRequest, "continue: this is no token of an earlier list; list from the beginning")
	}
	return position{namespace: namespace, name: name}, nil
}

func (p position) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.namespace + "/" + p.name))
}

// cut cuts the page out of all items, which are in order.
func (p page) cut(items []live.Connection) *live.ConnectionList {
	mark := live.Connection{ObjectMeta: metav1.ObjectMeta{Namespace: p.after.namespace, Name: p.after.name}}
	at, found := slices.BinarySearchFunc(items, mark, compare)
	if found {
		at++
	}
	items = items[at:]
	cut := &live.ConnectionList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "ConnectionList"},
		Items:    items,
	}
	if p.limit == 0 || len(items) <= p.limit {
		return cut
	}
	cut.Items = items[:p.limit]
	last := cut.Items[p.limit-1]
	cut.Continue = position{namespace: last.Namespace, name: last.Name}.token()
	cut.RemainingItemCount = new(int64(len(items) - p.limit))
	return cut
}

func compare(a, b live.Connection) int { return list.Compare(&a.ObjectMeta, &b.ObjectMeta) }
