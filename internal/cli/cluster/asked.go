package cluster

import (
	"fmt"
	"strings"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// Asked is what a command asked for, so that a refusal can be explained.
type Asked struct {
	Group string
	// Resource, with its subresource behind a slash.
	Resource string
	Verbs    []string
	// Namespace is "" for all of them.
	Namespace string
	// Name of the object, or "" for all of them.
	Name string
	// Pool, Target and Session were asked for along with it, if they are set.
	Pool, Target, Session string
	// With is what else the request needs, in the same namespace.
	With []Asked
}

// role returns the RBAC object that would permit the request.
func (a Asked) role() string {
	parts := []string{"connpool", strings.ReplaceAll(a.Resource, "/", "-")}
	switch {
	case a.Name != "":
		parts = append(parts, a.Name)
	case a.Resource == Sessions:
		parts = append(parts, a.Verbs...) // or applying one role would replace another
	}
	name := strings.Join(parts, "-")
	var b strings.Builder
	kind, binding := "ClusterRole", "clusterrolebinding "+name+" --clusterrole "+name
	if a.Namespace != "" {
		kind, binding = "Role", fmt.Sprintf("rolebinding %s --namespace %s --role %s", name, a.Namespace, name)
	}
	fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata:\n  name: %s\n", kind, name)
	if a.Namespace != "" {
		fmt.Fprintf(&b, "  namespace: %s\n", a.Namespace)
	}
	b.WriteString("rules:\n")
	for _, rule := range append([]Asked{a}, a.With...) {
		b.WriteString(rule.rule())
	}
	fmt.Fprintf(&b, "\nand then: kubectl create %s --user USER", binding)
	return b.String()
}

// rule returns one rule of a role.
func (a Asked) rule() string {
	names := ""
	if a.Name != "" {
		names = fmt.Sprintf("  resourceNames: [%q]\n", a.Name)
	}
	return fmt.Sprintf("- apiGroups: [%q]\n  resources: [%q]\n%s  verbs: [%s]\n", a.Group, a.Resource, names, strings.Join(a.Verbs, ", "))
}

// AskedToList asks for all objects of a resource of the declarative API.
func AskedToList(resource, namespace string) Asked {
	return Asked{Group: v1alpha1.GroupName, Resource: resource, Verbs: []string{"get", "list"}, Namespace: namespace}
}

// AskedToGet asks for one object of the declarative API.
func AskedToGet(resource, namespace, name string) Asked {
	return Asked{Group: v1alpha1.GroupName, Resource: resource, Verbs: []string{"get"}, Namespace: namespace, Name: name}
}

// AskedForConnections asks for a list of connections.
func AskedForConnections(namespace string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: Connections, Verbs: []string{"get", "list"}, Namespace: namespace}
}

// AskedToStream asks for a stream through a pool. It asks for get too: a WebSocket
// is opened by GET, and kube-apiserver authorizes that method.
func AskedToStream(subresource, namespace, pool, target string) Asked {
	return Asked{
		Group: livev1alpha1.GroupName, Resource: Pools + "/" + subresource, Verbs: []string{"create", "get"},
		Namespace: namespace, Name: pool, Target: target,
	}
}

// AskedToCreate asks for a subresource of the live API that acts once.
func AskedToCreate(resource, namespace, name string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: resource, Verbs: []string{"create"}, Namespace: namespace, Name: name}
}

// AskedToProxy asks for all Verbs: on its way a request is looked at by its
// method, and at its end by create.
func AskedToProxy(namespace, pool, target string) Asked {
	return Asked{
		Group: livev1alpha1.GroupName, Resource: Pools + "/proxy", Verbs: []string{"create", "get", "update", "patch", "delete"},
		Namespace: namespace, Name: pool, Target: target,
	}
}

// AskedForSessions asks for all sessions of a namespace, those of other users
// included.
func AskedForSessions(namespace string, verbs ...string) Asked {
	return Asked{Group: livev1alpha1.GroupName, Resource: Sessions, Verbs: verbs, Namespace: namespace}
}

// AskedToOpenSession asks for a session, and for the exec that it stands for.
func AskedToOpenSession(namespace, pool, target string) Asked {
	what := AskedForSessions(namespace, "create")
	what.Pool, what.Target = pool, target
	what.With = []Asked{AskedToCreate(Pools+"/exec", namespace, pool)}
	return what
}

// AskedToUseSession names no Session: a role for one that ends soon is of no use.
func AskedToUseSession(namespace, name string) Asked {
	what := AskedForSessions(namespace, "create", "get")
	what.Resource = Sessions + "/exec"
	what.Session = name
	what.With = []Asked{AskedToCreate(Pools+"/exec", namespace, "")}
	return what
}
