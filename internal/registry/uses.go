package registry

import (
	"context"
	"encoding/base64"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/columns"
	"github.com/connpool/connpool/internal/registry/history"
	"github.com/connpool/connpool/internal/registry/list"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// uses is the REST storage of uses: get and list, the newest first.
type uses struct {
	list.Resource[*live.Use]

	history *history.History
	replica string
}

var (
	_ rest.Getter = (*uses)(nil)
	_ rest.Lister = (*uses)(nil)
)

// Get implements rest.Getter.
func (s *uses) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	for _, use := range s.history.List(request.NamespaceValue(ctx)) {
		if use.Name == name {
			use.Replica = s.replica
			return &use.Use, nil
		}
	}
	return nil, apierrors.NewNotFound(live.Resource("uses"), name)
}

// List implements rest.Lister.
func (s *uses) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	wants, err := s.Select(options)
	if err != nil {
		return nil, err
	}
	limit, before, err := pageOfUses(options)
	if err != nil {
		return nil, err
	}
	found := &live.UseList{
		TypeMeta: metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "UseList"}, Items: []live.Use{},
	}
	var last uint64
	for _, use := range s.history.List(request.NamespaceValue(ctx)) {
		if before > 0 && use.Number >= before || !wants(&use.Use) {
			continue
		}
		if limit > 0 && len(found.Items) == limit {
			found.Continue = base64.RawURLEncoding.EncodeToString(strconv.AppendUint(nil, last, 10))
			break
		}
		use.Replica, last = s.replica, use.Number
		found.Items = append(found.Items, use.Use)
	}
	return found, nil
}

// pageOfUses returns how many uses a list may have, 0 for all, and the number before which
// it goes on, 0 from the newest on.
func pageOfUses(options *metainternalversion.ListOptions) (limit int, before uint64, err error) {
	if options == nil {
		return 0, 0, nil
	}
	limit = int(max(0, options.Limit))
	if options.Continue == "" {
		return limit, 0, nil
	}
	token, err := base64.RawURLEncoding.DecodeString(options.Continue)
	if err == nil {
		before, err = strconv.ParseUint(string(token), 10, 64)
	}
	if err != nil || before == 0 {
		return 0, 0, refusal.New(refusal.BadRequest, "continue: this is not a token of an earlier list; list from the beginning")
	}
	return limit, before, nil
}

var useResource = list.Resource[*live.Use]{
	Singular: "use", Plural: "uses", Short: []string{"cuse"}, Object: &live.Use{}, List: &live.UseList{},
	Columns: columns.Uses,
	Fields: []list.Field[*live.Use]{
		{Name: "metadata.name", Value: func(u *live.Use) string { return u.Name }},
		{Name: "metadata.namespace", Value: func(u *live.Use) string { return u.Namespace }},
		{Name: live.FieldPool, Value: func(u *live.Use) string { return u.Pool }},
		{Name: live.FieldTarget, Value: func(u *live.Use) string { return u.Target }},
		{Name: live.FieldState, Value: func(u *live.Use) string { return string(u.State) }},
		{Name: live.FieldUser, Value: func(u *live.Use) string { return u.User }},
		{Name: live.FieldAction, Value: func(u *live.Use) string { return string(u.Action) }},
		{Name: live.FieldOutcome, Value: func(u *live.Use) string { return string(u.Outcome) }},
	},
}
