package operator

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/connpool/connpool/internal/egress"
)

// Options are the settings of the operator. Register gives each its flag and its
// default; the flag's text says what it means. The defaults of what costs memory follow
// from the memory of the process, to which Register limits Go.
type Options struct {
	Version                      string // of the program; it has no flag
	Kubeconfig                   string // only Run reads it
	MetricsAddress, ProbeAddress string
	ProfileAddress               string
	LeaderElect                  bool
	LeaseNamespace               string // see leaseNamespace for an empty one
	Replica                      string
	Allow, Deny                  []netip.Prefix // Allow wins
	LocalSockets                 bool
	MaxConnections               int // of the targets of one namespace
	DrainTimeout                 time.Duration
	WatchNamespaces              []string // none for the whole cluster
	Live                         LiveOptions
	// Audit is the log of audit lines; it has no flag. The manager's log, unless it is set.
	Audit AuditLog
}

// AuditLog is where audit lines go.
type AuditLog struct {
	Logger logr.Logger
	// Dropped returns how many lines were lost, because what reads them was too slow.
	Dropped func() uint64
}

// or returns the log, or else one that writes to the logger.
func (l AuditLog) or(logger logr.Logger) AuditLog {
	if l.Dropped == nil {
		l = AuditLog{Logger: logger, Dropped: func() uint64 { return 0 }}
	}
	l.Logger = l.Logger.WithName(auditLogger)
	return l
}

// Register adds the flags, with their defaults.
func (o *Options) Register(flags *flag.FlagSet) { o.register(flags, limitMemory()) }

func (o *Options) register(flags *flag.FlagSet, memory int64) {
	o.Live.Limits.Memory = memory
	memory = o.Live.Limits.Planned()
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "path of the kubeconfig; the in-cluster configuration when empty")
	flags.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8443",
		"address of the authenticated HTTPS metrics endpoint; 0 turns it off")
	flags.StringVar(&o.ProbeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 turns them off")
	flags.StringVar(&o.ProfileAddress, "pprof-bind-address", "",
		"loopback address of Go's profiles over HTTP, such as 127.0.0.1:6060; off when empty or 0")
	flags.BoolVar(&o.LeaderElect, "leader-elect", false, "let one replica at a time hold the connections")
	flags.StringVar(&o.LeaseNamespace, "leader-elect-namespace", "", "namespace of the Lease; the operator's own when empty")
	host, _ := os.Hostname() // Validate asks for a name when the host has none
	flags.StringVar(&o.Replica, "replica-name", host, "name of this replica in the status of targets")
	flags.Func("watch-namespaces", "comma-separated namespaces whose pools are served, with a Role in each; all namespaces when empty",
		appendNamespaces(&o.WatchNamespaces))
	flags.Func("allow-cidrs", "comma-separated CIDRs that targets may resolve to although they are loopback, link-local or the like",
		appendCIDRs(&o.Allow))
	flags.Func("deny-cidrs", "comma-separated CIDRs that targets must not resolve to, such as those of the control plane's endpoints",
		appendCIDRs(&o.Deny))
	flags.BoolVar(&o.LocalSockets, "allow-local-sockets", false,
		"let targets use unix sockets of the operator's own host; every user who may write targets then has what those sockets give")
	flags.IntVar(&o.MaxConnections, "max-connections-per-namespace", scaled(5000, memory),
		"connections that the targets of one namespace may have, to jump hosts included; 0 for no bound; "+
			"the default follows from the memory limit")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", 5*time.Minute, "how long what runs may go on after SIGTERM")
	o.Live.register(flags)
}

// Validate returns an error that names the first flag whose value cannot be used.
func (o *Options) Validate() error {
	switch {
	case o.Replica == "":
		return errors.New("--replica-name must not be empty")
	case o.MaxConnections < 0:
		return errors.New("--max-connections-per-namespace must not be negative; 0 is no bound")
	case o.DrainTimeout < 0:
		return errors.New("--drain-timeout must not be negative")
	}
	if err := o.validateProfiles(); err != nil {
		return err
	}
	return o.Live.validate()
}

// validateProfiles refuses what other hosts could reach: profiles ask for no credentials,
// show what the operator does for all tenants, and cost it processor time.
func (o *Options) validateProfiles() error {
	if o.ProfileAddress == "" || o.ProfileAddress == "0" {
		return nil
	}
	host, port, err := net.SplitHostPort(o.ProfileAddress)
	if number, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil || number == 0 {
		return fmt.Errorf("--pprof-bind-address must be an IP and a port, such as 127.0.0.1:6060, not %q", o.ProfileAddress)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("--pprof-bind-address must be a loopback IP, such as 127.0.0.1:%s, not %q: profiles have no authentication; "+
			"reach them in a pod with kubectl port-forward", port, host)
	}
	return nil
}

// policy returns what targets may resolve to: not this host, not metadata
// services, not the control plane that the operator itself runs on.
func (o *Options) policy() egress.Policy {
	policy := egress.Policy{Allow: o.Allow, Deny: slices.Clone(o.Deny), LocalSockets: o.LocalSockets}
	if own, err := netip.ParseAddr(os.Getenv("KUBERNETES_SERVICE_HOST")); err == nil {
		policy.Deny = append(policy.Deny, netip.PrefixFrom(own, own.BitLen()))
	}
	return policy
}

// podNamespace is the file from which a pod reads its namespace.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// leaseNamespace returns the namespace of the leader's Lease: the one that is set,
// or that of the live API, or else the pod's own.
func (o *Options) leaseNamespace() (string, error) {
	if given := cmp.Or(o.LeaseNamespace, o.Live.Namespace); given != "" {
		return given, nil
	}
	own, err := os.ReadFile(podNamespace)
	if err != nil {
		return "", errors.New("not in a pod: name the namespace of the leader's Lease with --leader-elect-namespace")
	}
	return strings.TrimSpace(string(own)), nil
}

// appendNamespaces returns the setter of a flag that may be repeated and may hold a
// comma-separated list. An empty value adds nothing. The namespaces need not exist.
func appendNamespaces(to *[]string) func(string) error {
	return func(value string) error {
		if value == "" {
			return nil
		}
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
				return fmt.Errorf("%q is not the name of a namespace: %s", name, problems[0])
			}
			*to = append(*to, name)
		}
		return nil
	}
}

// appendCIDRs returns the setter of a flag that may be repeated and may hold a
// comma-separated list.
func appendCIDRs(to *[]netip.Prefix) func(string) error {
	return func(value string) error {
		for text := range strings.SplitSeq(value, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil {
				if net.ParseIP(strings.TrimSpace(text)) != nil {
					return fmt.Errorf("%q lacks its prefix length; write %s/32 or /128 for one address", text, text)
				}
				return fmt.Errorf("%q is not a CIDR such as 127.0.0.0/8", text)
			}
			*to = append(*to, prefix)
		}
		return nil
	}
}
