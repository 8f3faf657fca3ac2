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
	// after has the namespace and the name of the last item of the page before, which are
	// its continue token. The zero value comes before every connection.
	after live.Connection
}

func pageOf(options *metainternalversion.ListOptions) (page, error) {
	if options == nil {
		return page{}, nil
	}
	wanted := page{limit: int(max(0, options.Limit))}
	if options.Continue == "" {
		return wanted, nil
	}
	token, err := base64.RawURLEncoding.DecodeString(options.Continue)
	namespace, name, found := strings.Cut(string(token), "/")
	if err != nil || !found {
		return page{}, refusal.New(refusal.BadRequest, "continue: this is no token of an earlier list; list from the beginning")
	}
	wanted.after.Namespace, wanted.after.Name = namespace, name
	return wanted, nil
}

// cut cuts the page out of all items, which are in order.
func (p page) cut(items []live.Connection) *live.ConnectionList {
	at, found := slices.BinarySearchFunc(items, p.after, compare)
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
	cut.Continue = base64.RawURLEncoding.EncodeToString([]byte(last.Namespace + "/" + last.Name))
	cut.RemainingItemCount = new(int64(len(items) - p.limit))
	return cut
}

func compare(a, b live.Connection) int { return list.Compare(&a, &b) }
