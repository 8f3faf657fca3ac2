// Package cluster is the cluster that a command of the plugin talks to: which one
// it is, clients of its APIs, and the next step when it refuses a request.
//
// A Cluster is read from kubectl's own flags, the kubeconfig and the environment
// when a command first asks for it, and each client is made when it is asked for.
// An error of a client passes through Explain, together with what was asked for:
//
//	objects, err := c.Objects()
//	...
//	pool, err := objects.Pool(ctx, namespace, name)
//	if err != nil {
//		return c.Explain(ctx, err, cluster.AskedToGet(cluster.Pools, namespace, name))
//	}
//
// Trade-off: the two APIs of connpool are spoken to by their own types over plain
// REST clients, and the few objects of other APIs as JSON. That is more code than
// a client with discovery would need, and saves the tens of milliseconds that
// discovery would cost before every command. For the same reason the flags are
// read by clientcmd, and not by cli-runtime's ConfigFlags, which bring the types
// of every Kubernetes API along: 4 ms at each start and 38 MB of binary.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/login"
	"github.com/connpool/connpool/internal/cli/requestlog"
	"github.com/connpool/connpool/internal/cli/road"
	"github.com/connpool/connpool/internal/embedded"
)

// Cluster is the cluster of a command, its namespace and its user.
type Cluster struct {
	program    string
	version    string
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
	// loaded reads the kubeconfig, once; nil until something asks for it.
	loaded  clientcmd.ClientConfig
	log     io.Writer
	logging *requestlog.Log // nil until the first request is prepared

	// Verbosity is how much of requests is logged: from 6 on their URLs, from 8 on headers.
	Verbosity int
	// Direct is when the live API is reached without kube-apiserver. If it is empty, the
	// environment says it.
	Direct road.Mode
	// Dial connects to the operator; nil for the dialer of Go.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns the cluster that flags and kubeconfig name. Hints tell the user to
// type the name of the program, and requests carry its version. They are logged to log.
func New(program, version string, log io.Writer) *Cluster {
	return &Cluster{program: program, version: version, log: log}
}

// Register adds kubectl's own flags, under their own names.
func (c *Cluster) Register(flags *pflag.FlagSet) {
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "Path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	// Understood, as in kubectl, but not advertised.
	names.AuthOverrideFlags.Username.LongName = ""
	names.AuthOverrideFlags.Password.LongName = ""
	names.Timeout.Description = "How long to wait for an answer that is not a stream, such as 10s; 0 means forever"
	names.ContextOverrideFlags.Namespace.Description = "Namespace of the pools and targets"
	clientcmd.BindOverrideFlags(&c.overrides, flags, names)
	for _, rare := range rareFlags {
		// It fails only for a flag that does not exist, which a test would see.
		_ = flags.MarkHidden(rare)
	}
}

// rareFlags work as in kubectl, and would only lengthen the help.
var rareFlags = []string{
	"as-uid", "certificate-authority", "client-certificate", "client-key", "disable-compression",
	"insecure-skip-tls-verify", "proxy-url", "tls-server-name",
}

// loader reads the kubeconfig, or the ServiceAccount of the pod of this process. The flags
// have been parsed when it is first called.
func (c *Cluster) loader() clientcmd.ClientConfig {
	if c.loaded == nil {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = c.kubeconfig
		c.loaded = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &c.overrides)
	}
	return c.loaded
}

// Namespace returns the namespace that the flags or the kubeconfig name.
func (c *Cluster) Namespace() (string, error) {
	namespace, _, err := c.loader().Namespace()
	if err != nil {
		return "", c.noCluster(err)
	}
	return namespace, nil
}

// NamespaceFlag returns the value of --namespace, or "".
func (c *Cluster) NamespaceFlag() string { return c.overrides.Context.Namespace }

// Context returns the name of the context that the flags or the kubeconfig choose, or
// "" if there is none, as in a pod.
func (c *Cluster) Context() string {
	if c.overrides.CurrentContext != "" {
		return c.overrides.CurrentContext
	}
	config, err := c.loader().RawConfig()
	if err != nil {
		return ""
	}
	return config.CurrentContext
}

// Contexts returns the names of the contexts of the kubeconfig.
func (c *Cluster) Contexts() ([]string, error) {
	config, err := c.loader().RawConfig()
	return slices.Collect(maps.Keys(config.Contexts)), err
}

func (c *Cluster) restConfig() (*rest.Config, error) {
	config, err := c.loader().ClientConfig()
	if err != nil {
		return nil, c.noCluster(err)
	}
	if config.CAFile == "" && len(config.CAData) == 0 || config.AuthProvider != nil {
		embedded.Authorities()
	}
	config.UserAgent = "kubectl-connpool/" + c.version
	// The user waits for these few requests, and they need no rate limit.
	config.QPS = -1
	if c.logging == nil {
		c.logging = requestlog.New(c.log, c.Verbosity)
	}
	config.Wrap(c.logging.Wrap)
	if err := login.Share(config); err != nil {
		return nil, err
	}
	return config, nil
}

// Objects returns a client of the declarative API: pools and targets.
func (c *Cluster) Objects() (Objects, error) {
	config, err := c.restConfig()
	if err != nil {
		return Objects{}, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return Objects{}, fmt.Errorf("describe the API: %w", err)
	}
	config.GroupVersion = &v1alpha1.GroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	rests, err := rest.RESTClientFor(config)
	if err != nil {
		return Objects{}, c.noCluster(err)
	}
	return Objects{rest: rests}, nil
}

// Live returns a client of the live API.
func (c *Cluster) Live(ctx context.Context) (*client.Client, error) {
	way, err := c.Road(ctx, false)
	if err != nil {
		return nil, err
	}
	live, err := way.Client()
	if err != nil {
		return nil, c.noCluster(err)
	}
	return live, nil
}

// noCluster explains a configuration that names no usable cluster.
func (c *Cluster) noCluster(err error) error {
	if _, bad := clientcmd.ParseTimeout(cmp.Or(c.overrides.Timeout, "0")); bad != nil {
		return fmt.Errorf("--request-timeout %q is not a duration such as 10s", c.overrides.Timeout)
	}
	contexts, unread := c.Contexts()
	if name := c.overrides.CurrentContext; name != "" && unread == nil && !slices.Contains(contexts, name) {
		err = fmt.Errorf("the kubeconfig has no context %q", name)
		if near := nearest(name, contexts); len(near) > 0 {
			return exit.Hint(err, "%s", didYouMean(near))
		}
		return exit.Hint(err, "See its contexts: kubectl config get-contexts")
	}
	if clientcmd.IsEmptyConfig(err) {
		err = errors.New("there is no kubeconfig")
	}
	return exit.Hint(fmt.Errorf("no cluster to talk to: %w", err),
		"Name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context.")
}

// IsName reports whether text can be the name of a Kubernetes object.
func IsName(text string) bool { return len(content.IsDNS1123Subdomain(text)) == 0 }
