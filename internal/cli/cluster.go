package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterFlags say which cluster, as whom and in which namespace: kubectl's own
// flags under their own names.
//
// They are read by clientcmd, as kubectl's are, and not by cli-runtime's
// ConfigFlags, which brings the types of every Kubernetes API along for the sake
// of discovery: 4 ms at each start and 38 MB of binary.
type clusterFlags struct {
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
}

func (c *clusterFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "Path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	// As in kubectl: understood, but nobody should learn them.
	names.AuthOverrideFlags.Username.LongName = ""
	names.AuthOverrideFlags.Password.LongName = ""
	names.Timeout.Description = "How long to wait for an answer that is not a stream, such as 10s; 0 means for ever"
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

// loader reads the kubeconfig, or the ServiceAccount of the pod we run in.
func (c *clusterFlags) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &c.overrides)
}

// noCluster explains a configuration that leads nowhere.
func noCluster(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		err = errors.New("there is no kubeconfig")
	}
	return hinted(fmt.Errorf("no cluster to talk to: %w", err),
		"Name a kubeconfig with --kubeconfig or KUBECONFIG, and a cluster in it with --context.")
}
