package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
)

// wanted are requests that a user may want to make, and the commands that need them.
type wanted struct {
	group, resource string
	verbs           []string
	neededFor       string
}

var allWanted = []wanted{
	{v1alpha1.GroupName, cluster.Pools, []string{"get", "list"}, "status, web"},
	{v1alpha1.GroupName, cluster.Targets, []string{"get", "list"}, "status, web"},
	{livev1alpha1.GroupName, cluster.Connections, []string{"get", "list"}, "connections, top, web"},
	{livev1alpha1.GroupName, cluster.Uses, []string{"get", "list"}, "history, web"},
	{livev1alpha1.GroupName, cluster.Pools + "/exec", []string{"create", "get"}, "exec, run, cp, shell, targets, containers, pods"},
	{livev1alpha1.GroupName, cluster.Pools + "/portforward", []string{"create", "get"}, "port-forward"},
	{livev1alpha1.GroupName, cluster.Pools + "/socketforward", []string{"create"}, "port-forward of unix sockets"},
	{livev1alpha1.GroupName, cluster.Pools + "/proxy", []string{"create", "get", "update", "patch", "delete"}, "proxy"},
	{livev1alpha1.GroupName, cluster.Sessions, []string{"create", "get", "list", "delete"}, "session create, list, delete"},
	{livev1alpha1.GroupName, cluster.Sessions + "/exec", []string{"create", "get"}, "session exec"},
	{livev1alpha1.GroupName, cluster.Pools + "/drain", []string{"create"}, "drain POOL"},
	{livev1alpha1.GroupName, cluster.Connections + "/drain", []string{"create"}, "drain connection/NAME"},
	{livev1alpha1.GroupName, cluster.Targets + "/check", []string{"create"}, "check"},
	{v1alpha1.GroupName, cluster.Pools, []string{"create", "update", "delete"}, "declaring pools"},
	{v1alpha1.GroupName, cluster.Targets, []string{"create", "update", "delete"}, "declaring targets"},
}

// right is whether the user may make such requests.
type right struct {
	What      string `json:"what"`
	Allowed   bool   `json:"allowed"`
	NeededFor string `json:"neededFor"`
	// Missing are the verbs that are not allowed.
	Missing []string `json:"missing,omitempty"`
	// Error says why it cannot be asked.
	Error string `json:"error,omitempty"`

	lacks cluster.Asked
}

// rights finds out what the user may do, by asking for all at the same time.
func (e *examination) rights(ctx context.Context) []right {
	rights := make([]right, len(allWanted))
	var asking sync.WaitGroup
	for i, w := range allWanted {
		asking.Go(func() { rights[i] = e.right(ctx, w) })
	}
	asking.Wait()
	return rights
}

// right asks for the verbs of one resource. One that a Role can give for a pool by its
// name is asked for that name.
func (e *examination) right(ctx context.Context, w wanted) right {
	r := right{What: strings.Join(w.verbs, ",") + " " + w.resource, NeededFor: w.neededFor}
	r.lacks = cluster.Asked{Group: w.group, Resource: w.resource, Namespace: e.namespace}
	for _, verb := range w.verbs {
		name := ""
		if strings.HasPrefix(w.resource, cluster.Pools) && (verb != "create" && verb != "list" || strings.Contains(w.resource, "/")) {
			name = e.pool
		}
		allowed, err := e.allowed(ctx, w, verb, name)
		switch {
		case err != nil:
			r.Error = err.Error()
			return r
		case !allowed:
			r.Missing = append(r.Missing, verb)
		}
	}
	r.Allowed, r.lacks.Verbs = len(r.Missing) == 0, r.Missing
	if strings.HasPrefix(w.resource, cluster.Pools+"/") {
		r.lacks.Name = e.pool
	}
	return r
}

// accessReview is a SelfSubjectAccessReview.
type accessReview struct {
	metav1.TypeMeta `json:",inline"`

	Spec struct {
		Attributes map[string]string `json:"resourceAttributes"`
	} `json:"spec"`
	Status struct {
		Allowed bool `json:"allowed"`
	} `json:"status,omitzero"`
}

func (e *examination) allowed(ctx context.Context, w wanted, verb, name string) (bool, error) {
	resource, subresource, _ := strings.Cut(w.resource, "/")
	review := accessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}}
	review.Spec.Attributes = map[string]string{
		"namespace": e.namespace, "verb": verb, "group": w.group, "resource": resource, "subresource": subresource, "name": name,
	}
	err := e.plain.Post(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
	return review.Status.Allowed, err
}

// role returns the Role that would permit what is missing; "" if nothing is.
func (e *examination) role(rights []right) string {
	var lacking []cluster.Asked
	for _, r := range rights {
		if len(r.Missing) > 0 {
			lacking = append(lacking, r.lacks)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	name := "connpool-user"
	if e.pool != "" {
		name += "-of-" + e.pool
	}
	return cluster.Role(name, cmp.Or(e.user, "USER"), lacking)
}

func (o *options) printRights(e *examination, rights []right) {
	if len(rights) == 0 {
		return
	}
	where := "in namespace " + e.namespace
	if e.pool != "" {
		where = "with pool " + e.pool + " " + where
	}
	fmt.Fprintf(o.Out, "\nWhat you may do %s:\n\n", where)
	t := &display.Table{Columns: []string{"WHAT", "MAY YOU", "NEEDED FOR"}}
	for _, r := range rights {
		t.Add(r.What, r.verdict(), r.NeededFor)
	}
	t.Write(o.Out)
	if role := e.role(rights); role != "" {
		fmt.Fprintf(o.Out, "\nThis would permit the rest; delete what you do not need, "+
			"and ask a user who may create roles to apply it:\n\n%s\n", role)
	}
	if e.pool == "" && slices.ContainsFunc(rights, func(r right) bool { return len(r.Missing) > 0 }) {
		fmt.Fprintf(o.Out, "\nA Role may permit some pools by their names. To see that, name one: %s doctor POOL\n", o.Name)
	}
}

func (r *right) verdict() string {
	switch {
	case r.Error != "":
		return "unknown: " + r.Error
	case r.Allowed:
		return "yes"
	case len(r.Missing) == strings.Count(r.What, ",")+1:
		return "no"
	}
	return "no: lacks " + strings.Join(r.Missing, ", ")
}
