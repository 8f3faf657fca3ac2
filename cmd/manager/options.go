package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/egress"
)

// signalHandler returns a context that ends with SIGTERM or SIGINT.
type signalHandler func() context.Context

// options are the flags. --kubeconfig is controller-runtime's own.
type options struct {
	metricsAddress string
	probeAddress   string
	leaderElect    bool
	namespace      string
	replica        string
	allow, deny    prefixes
	localSockets   bool
	drainTimeout   time.Duration
	kubernetes     kubernetesOptions
	kubeconfig     string
	printVersion   bool
	live           liveOptions
}

func (o *options) register(flags *flag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "path of the kubeconfig; the in-cluster configuration when empty")
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443",
		"address of the authenticated HTTPS metrics endpoint; 0 turns it off")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 turns them off")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "let one replica at a time hold the connections")
	flags.StringVar(&o.namespace, "leader-elect-namespace", "", "namespace of the Lease; the operator's own when empty")
	flags.StringVar(&o.replica, "replica-name", hostname(), "name of this replica in the status of targets")
	flags.Var(&o.allow, "allow-cidrs",
		"comma-separated CIDRs that targets may resolve to although they are loopback, link-local or the like")
	flags.Var(&o.deny, "deny-cidrs",
		"comma-separated CIDRs that targets must not resolve to, such as those of the control plane's endpoints")
	flags.BoolVar(&o.localSockets, "allow-local-sockets", false,
		"let targets use unix sockets of the operator's own host; whoever may write targets then has what those sockets give")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 5*time.Minute, "how long what runs may go on after SIGTERM")
	o.kubernetes.register(flags)
	o.live.register(flags)
	flags.BoolVar(&o.printVersion, "version", false, "print the version and exit")
}

func (o *options) validate(arguments []string) error {
	switch {
	case len(arguments) > 0:
		return fmt.Errorf("unexpected argument %q; all settings are flags, see --help", arguments[0])
	case o.replica == "":
		return errors.New("--replica-name must not be empty")
	case o.drainTimeout < 0:
		return errors.New("--drain-timeout must not be negative")
	case o.kubernetes.qps <= 0 || o.kubernetes.burst <= 0:
		return errors.New("--kubernetes-qps and --kubernetes-burst must be greater than 0")
	}
	return o.live.validate()
}

// kubernetesOptions are the flags for targets of type kubernetes.
type kubernetesOptions struct {
	qps   float64
	burst int
}

func (o *kubernetesOptions) register(flags *flag.FlagSet) {
	flags.Float64Var(&o.qps, "kubernetes-qps", 50,
		"requests, commands and port-forwards that may begin in a second with the same kubeconfig, over time")
	flags.IntVar(&o.burst, "kubernetes-burst", 100, "how many of them may begin at once")
}

// policy says what targets may resolve to: not this host, not metadata
// services, not the control plane that the operator itself runs on.
func (o *options) policy() egress.Policy {
	policy := egress.Policy{Allow: o.allow, Deny: slices.Clone(o.deny), LocalSockets: o.localSockets}
	if own, err := netip.ParseAddr(os.Getenv("KUBERNETES_SERVICE_HOST")); err == nil {
		policy.Deny = append(policy.Deny, netip.PrefixFrom(own, own.BitLen()))
	}
	return policy
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// prefixes is a flag that may be repeated or hold a comma-separated list.
type prefixes []netip.Prefix

// String prints the list.
func (p *prefixes) String() string {
	texts := make([]string, len(*p))
	for i, prefix := range *p {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Set adds to the list.
func (p *prefixes) Set(value string) error {
	for text := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			if net.ParseIP(strings.TrimSpace(text)) != nil {
				return fmt.Errorf("%q lacks its prefix length; write %s/32 or /128 for one address", text, text)
			}
			return fmt.Errorf("%q is not a CIDR such as 127.0.0.0/8", text)
		}
		*p = append(*p, prefix)
	}
	return nil
}
