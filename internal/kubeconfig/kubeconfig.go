// Package kubeconfig reads what one context of a kubeconfig refers to. The files come
// from Secrets of tenants, so what reading may cost is bounded: 64 KiB, no anchors and
// no aliases, one file at a time, and once for each content.
//
// Bounds come before expansion. YAML's aliases make 75 KB into gigabytes when the YAML is
// converted, and libraries count aliases, not the bytes that they stand for.
package kubeconfig

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/lru"
)

const (
	// MaxBytes is how long a kubeconfig may be.
	MaxBytes = 64 << 10
	// maxKept is how many contexts are kept in memory after they were read.
	maxKept = 128
	// maxNamesBytes bounds the list of names in a message.
	maxNamesBytes = 100
)

// The advice of messages. kubectl writes neither anchors nor other contexts then.
const minify = "kubectl config view --raw --minify --flatten"

var (
	errTooLong = errors.New("the kubeconfig is larger than 64 KiB; keep only the context that is needed: " + minify)
	errNoYAML  = errors.New("the kubeconfig cannot be read; check that it is YAML or JSON as kubectl writes it: kubectl config view --raw")
)

// Context is what a context refers to. It is shared and must not be changed.
type Context struct {
	// Name is that of the context.
	Name    string
	Cluster *api.Cluster
	// User is nil if the file lacks the user of UserName.
	User     *api.AuthInfo
	UserName string
	// Namespace is empty if the context has none.
	Namespace string
}

// reading is a file and the context that is read of it.
type reading struct {
	content [sha256.Size]byte
	context string
}

type result struct {
	context *Context
	err     error
}

// cache keeps results, refusals included. The controller reads the file of a target at
// every reconciliation, and the driver for every pool.
var (
	cache = lru.New(maxKept)
	// turn is held while a file is parsed, so that many cost the memory of one.
	turn sync.Mutex
)

// Read returns what a context of the file refers to. An empty name means the file's
// current-context. The text of an error is a sentence for the owner of the file, which
// may quote names of it, but no other content.
func Read(text []byte, name string) (*Context, error) {
	if len(text) > MaxBytes {
		return nil, errTooLong
	}
	key := reading{content: sha256.Sum256(text), context: name}
	turn.Lock()
	defer turn.Unlock()
	if kept, ok := cache.Get(key); ok {
		known, _ := kept.(result)
		return known.context, known.err
	}
	var fresh result
	fresh.context, fresh.err = read(text, name)
	cache.Add(key, fresh)
	return fresh.context, fresh.err
}

func read(text []byte, name string) (*Context, error) {
	file, err := parse(text)
	if err != nil {
		return nil, err
	}
	return choose(file, name)
}

// parse passes client-go the content as JSON, in which it finds no aliases, even if its
// parser should take a text for YAML in another way than this package's parser.
func parse(text []byte) (*api.Config, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, errNoYAML // the library's error may quote the content
	}
	if line := findAnchor(&root); line != 0 {
		return nil, fmt.Errorf("line %d of the kubeconfig has a YAML anchor or alias (& or *), which are refused, "+
			"because they let a small file fill the memory; write the value itself there: %s", line, minify)
	}
	converted, err := json.Marshal(valueOf(&root))
	if err != nil {
		return nil, errNoYAML
	}
	file, err := clientcmd.Load(converted)
	if err != nil {
		return nil, errNoYAML
	}
	return file, nil
}

// findAnchor returns the line of the first anchor or alias, or 0. It does not follow
// aliases.
func findAnchor(node *yaml.Node) (line int) {
	if node.Anchor != "" || node.Kind == yaml.AliasNode {
		return node.Line
	}
	for _, child := range node.Content {
		if line := findAnchor(child); line != 0 {
			return line
		}
	}
	return 0
}

// valueOf returns what a node stands for. The library's own way from nodes to values
// compares all keys of a map with one another, and keeps a message for every pair.
func valueOf(node *yaml.Node) any {
	switch {
	case node.Kind == yaml.DocumentNode && len(node.Content) > 0:
		return valueOf(node.Content[0])
	case node.Kind == yaml.MappingNode:
		values := make(map[string]any, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			values[node.Content[i].Value] = valueOf(node.Content[i+1])
		}
		return values
	case node.Kind == yaml.SequenceNode:
		values := make([]any, len(node.Content))
		for i, item := range node.Content {
			values[i] = valueOf(item)
		}
		return values
	}
	var value any
	if err := node.Decode(&value); err != nil {
		return nil
	}
	return value
}

func choose(file *api.Config, name string) (*Context, error) {
	if name = cmp.Or(name, file.CurrentContext); name == "" {
		return nil, fmt.Errorf("the kubeconfig has no current-context; name one in kubernetes.context%s", choices(file.Contexts))
	}
	chosen := file.Contexts[name]
	if chosen == nil {
		return nil, fmt.Errorf("the kubeconfig has no context %q; correct kubernetes.context%s", name, choices(file.Contexts))
	}
	cluster := file.Clusters[chosen.Cluster]
	if cluster == nil {
		return nil, fmt.Errorf("the kubeconfig's context %q refers to the cluster %q, which it does not have; add it", name, chosen.Cluster)
	}
	cluster.Extensions = nil
	user := file.AuthInfos[chosen.AuthInfo]
	if user != nil {
		user.Extensions = nil
	}
	return &Context{Name: name, Cluster: cluster, User: user, UserName: chosen.AuthInfo, Namespace: chosen.Namespace}, nil
}

// choices lists the contexts of the file, as far as they fit into a message.
func choices(contexts map[string]*api.Context) string {
	names := strings.Join(slices.Sorted(maps.Keys(contexts)), ", ")
	switch {
	case names == "":
		return ""
	case len(names) > maxNamesBytes:
		names = strings.ToValidUTF8(names[:maxNamesBytes], "") + "..."
	}
	return "; it has " + names
}
