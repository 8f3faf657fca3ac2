package registry

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// connectionFields are the fields that selectors may name.
var connectionFields = map[string]func(*live.Connection) string{
	"metadata.name":      func(c *live.Connection) string { return c.Name },
	"metadata.namespace": func(c *live.Connection) string { return c.Namespace },
	live.FieldPool:       func(c *live.Connection) string { return c.Pool },
	live.FieldTarget:     func(c *live.Connection) string { return c.Target },
	live.FieldType:       func(c *live.Connection) string { return c.Type },
	live.FieldState:      func(c *live.Connection) string { return string(c.State) },
}

func checkField(name string) error {
	if connectionFields[name] != nil {
		return nil
	}
	known := []string{"metadata.name", "metadata.namespace", live.FieldPool, live.FieldTarget, live.FieldType, live.FieldState}
	return fmt.Errorf("the field selector names %q, which connections are not selected by; choose one of %s",
		plain(name), list(known, len(known)))
}

// selection is which connections a list wants.
type selection struct {
	labels labels.Selector
	fields []fields.Requirement
	limit  int
	// after is the last connection of the page before; the zero value comes before
	// every connection.
	after position
}

// position is where a connection stands in a list. It travels in continue tokens,
// which mean nothing to anybody else.
type position struct{ namespace, name string }

func selectionOf(options *metainternalversion.ListOptions) (selection, error) {
	wanted := selection{labels: labels.Everything()}
	if options == nil {
		return wanted, nil
	}
	if options.LabelSelector != nil {
		wanted.labels = options.LabelSelector
	}
	if options.FieldSelector != nil {
		wanted.fields = options.FieldSelector.Requirements()
	}
	for _, requirement := range wanted.fields {
		if err := checkField(requirement.Field); err != nil {
			return wanted, refused(badRequest, err.Error())
		}
	}
	wanted.limit = int(max(0, options.Limit))
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
		return after, refused(badRequest, "continue: this is no token of an earlier list; list from the beginning")
	}
	return position{namespace: namespace, name: name}, nil
}

func (p position) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.namespace + "/" + p.name))
}

func (s selection) matches(c *live.Connection) bool {
	for _, requirement := range s.fields {
		has := connectionFields[requirement.Field](c) == requirement.Value
		if has == (requirement.Operator == "!=") {
			return false
		}
	}
	return s.labels.Matches(labels.Set(c.Labels))
}

// page cuts what the selection wants to see now out of all that match, which are
// in order.
func (s selection) page(items []live.Connection) *live.ConnectionList {
	mark := live.Connection{ObjectMeta: metav1.ObjectMeta{Namespace: s.after.namespace, Name: s.after.name}}
	at, found := slices.BinarySearchFunc(items, mark, compare)
	if found {
		at++
	}
	items = items[at:]
	page := &live.ConnectionList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "ConnectionList"},
		Items:    items,
	}
	if s.limit == 0 || len(items) <= s.limit {
		return page
	}
	page.Items = items[:s.limit]
	last := page.Items[s.limit-1]
	page.Continue = position{namespace: last.Namespace, name: last.Name}.token()
	page.RemainingItemCount = new(int64(len(items) - s.limit))
	return page
}

// compare orders by namespace and name, which stay while a list is paged through.
func compare(a, b live.Connection) int {
	if order := strings.Compare(a.Namespace, b.Namespace); order != 0 {
		return order
	}
	return strings.Compare(a.Name, b.Name)
}
