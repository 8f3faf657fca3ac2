// Package change finds out what server-side apply would change, before it does.
//
// Trade-off: the comparison is of the object as it is with the answer to a dry run, so it
// knows defaults and webhooks, and costs two requests.
package change

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/internal/cli/cluster"
)

// Change is what happens to one object.
type Change struct {
	Object runtime.Object // nil if there is nothing to apply
	// Name is that of the object, and State what happens to it, as kubectl prints them.
	Name, State string
	// Differences are the fields that would be another, without data of Secrets.
	Differences []string
}

// States of a change, in kubectl's words.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
)

// Of returns what applying an object would change. A Secret, which is unstructured, keeps its type.
func Of(ctx context.Context, plain cluster.Plain, object runtime.Object) (Change, error) {
	about, err := meta.Accessor(object)
	if err != nil {
		return Change{}, err
	}
	kind := strings.ToLower(object.GetObjectKind().GroupVersionKind().Kind)
	c := Change{Object: object, Name: kind + "/" + about.GetName(), State: Created}
	now, err := plain.GetLike(ctx, object)
	exists := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return c, err
	}
	if secret, ok := object.(*unstructured.Unstructured); ok && exists {
		secret.Object["type"] = now["type"] // which cannot be changed
	}
	then, err := plain.Apply(ctx, object, cluster.ApplyOptions{DryRun: true, Force: true})
	if err != nil || !exists {
		return c, err
	}
	c.State, c.Differences = Configured, differences(now, then)
	if len(c.Differences) == 0 {
		c.State = Unchanged
	}
	return c, nil
}

// differences says in which fields an object would change. It shows no data of Secrets.
func differences(now, then map[string]any) []string {
	var all []string
	for _, path := range [][]string{{"spec"}, {"data"}, {"metadata", "labels"}, {"metadata", "annotations"}} {
		before, after := flat(now, path), flat(then, path)
		either := maps.Clone(before)
		maps.Copy(either, after)
		for _, field := range slices.Sorted(maps.Keys(either)) {
			switch {
			case reflect.DeepEqual(before[field], after[field]):
			case path[0] == "data":
				all = append(all, field+" is another")
			default:
				all = append(all, fmt.Sprintf("%s is %s, not %s", field, shown(before[field]), shown(after[field])))
			}
		}
	}
	return all
}

// flat returns the leaves of an object below a path.
func flat(object map[string]any, path []string) map[string]any {
	var below any = object
	for _, key := range path {
		fields, _ := below.(map[string]any)
		below = fields[key]
	}
	leaves := map[string]any{}
	flatten(strings.Join(path, "."), below, leaves)
	return leaves
}

func flatten(path string, value any, leaves map[string]any) {
	fields, ok := value.(map[string]any)
	if !ok && value != nil {
		leaves[path] = value
	}
	for key, below := range fields {
		flatten(path+"."+key, below, leaves)
	}
}

func shown(value any) string {
	if value == nil {
		return "absent"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "unreadable"
	}
	return string(text)
}
