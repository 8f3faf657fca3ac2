package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/sshhost"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
)

// hostKeys is what a target pins, and how sure that is.
type hostKeys struct {
	keys v1alpha1.HostKeys
	// firstSeen says that the user has to compare them: they were not known before.
	firstSeen bool
}

// findHostKeys finds the keys to pin: those by which the existing target or known_hosts
// know the host, or those that the host shows now. It returns an error if what the host
// shows is not what it is known by.
func (o *addOptions) findHostKeys(ctx context.Context, existing *v1alpha1.SSHTarget, dial sshhost.DialFunc) (hostKeys, error) {
	known, pinned, err := o.known(existing)
	if err != nil {
		return hostKeys{}, err
	}
	scan, err := sshhost.ScanHost(ctx, dial, o.target.Address.String(), o.scanTimeout)
	switch {
	case err != nil && (known.IsEmpty() || o.fingerprint != ""):
		return hostKeys{}, exit.Hint(err, "To pin its key the host must be seen once. If it cannot be reached from here, take its key\n"+
			"from a machine that can reach it, and name the file: --known-hosts FILE")
	case err != nil:
		fmt.Fprintf(o.ErrOut, "The host cannot be seen from here (%v). Its key is taken from %s.\n", err, pinned.source)
		return hostKeys{keys: pinned.keys}, nil
	}
	if err := scan.Verify(known); err != nil {
		return hostKeys{}, o.changed(err, pinned.source)
	}
	switch {
	case o.fingerprint != "":
		key, err := scan.Choose(o.fingerprint)
		return hostKeys{keys: v1alpha1.HostKeys{KnownHosts: []string{key}}}, err
	case known.IsEmpty():
		return o.firstSeen(&scan)
	}
	fmt.Fprintf(o.ErrOut, "%s: its key is known from %s.\n", scan.Title(o.target.Host), pinned.source)
	return hostKeys{keys: pinned.keys}, nil
}

// changed refuses a host that does not show the key that it is known by.
func (o *addOptions) changed(err error, source string) error {
	return exit.Hint(fmt.Errorf("%w\n(known from %s)", err, source),
		"Nothing was sent to the host, and nothing was made. Another machine may be posing as %s.\n"+
			"If its key was changed on purpose, have its administrator confirm the new fingerprint, remove the old\n"+
			"key from %s, and run this again.", o.target.Host, source)
}

// pinned are the keys by which a host is known, and where they stand.
type pinned struct {
	source string
	keys   v1alpha1.HostKeys
}

// known returns what is known of the host: by its target if it exists, else by known_hosts.
func (o *addOptions) known(existing *v1alpha1.SSHTarget) (*knownhosts.Pins, pinned, error) {
	if existing != nil && existing.Host == o.target.Host && len(existing.HostKeys.KnownHosts) > 0 {
		text := []byte(strings.Join(existing.HostKeys.KnownHosts, "\n"))
		found := knownhosts.Find(text, o.target.Address.String())
		return found, pinned{"the target " + o.target.Name, existing.HostKeys}, nil
	}
	var files []string
	if o.knownHosts != "" {
		files = []string{o.knownHosts}
	}
	known, err := sshhost.ReadKnownHosts(files...)
	if err != nil {
		return nil, pinned{}, err
	}
	found := known.Find(o.target.Host, o.target.Port)
	if found.IsEmpty() && o.knownHosts != "" {
		return nil, pinned{}, fmt.Errorf("%s has no key of %s that can be used", o.knownHosts, o.target.Address)
	}
	return found, pinned{known.Names(), v1alpha1.HostKeys{KnownHosts: found.Lines()}}, nil
}

// firstSeen returns the keys of a host that was not known, and shows them.
func (o *addOptions) firstSeen(scan *sshhost.Scan) (hostKeys, error) {
	keys := scan.Pins()
	if len(keys) == 0 {
		return hostKeys{}, sshhost.ErrWeak
	}
	fmt.Fprintf(o.ErrOut, "%s: it is not known here yet. It shows:\n\n  %s\n\n"+
		"An attacker between you and the host could have answered. Compare with what the host itself says:\n\n  %s\n\n",
		scan.Title(o.target.Host), strings.Join(scan.Table().Lines(), "\n  "), scan.HowToCompare())
	return hostKeys{v1alpha1.HostKeys{KnownHosts: keys}, true}, nil
}

// dialer returns how to reach the host for a scan: from here, or through the jump host. If
// that cannot be used, each dial says why.
func (p *plan) dialer(ctx context.Context) (dial sshhost.DialFunc, stop func()) {
	if p.target.Jump == "" {
		return sshhost.FromHere, func() {}
	}
	forwarder, err := p.throughJump(ctx)
	if err != nil {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }, func() {}
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return forwarder.Dial(ctx) }, forwarder.Close
}

// throughJump opens a forward to the host by a pool that has the jump host's target.
func (p *plan) throughJump(ctx context.Context) (*client.Forwarder, error) {
	objects, err := p.Cluster.Objects()
	if err != nil {
		return nil, err
	}
	pools, err := objects.Pools(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	live, err := p.Cluster.Live(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pools {
		if len(cluster.TargetsOf(&pools[i], []v1alpha1.ConnectionTarget{*p.jump})) == 0 {
			continue
		}
		forwarder, err := live.Pool(p.Namespace, pools[i].Name).Forward(ctx, p.target.Jump, p.target.Address.String())
		if err != nil {
			return nil, fmt.Errorf("through pool %s: %w", pools[i].Name, err)
		}
		return forwarder, nil
	}
	return nil, errors.New("no pool connects to the jump host, so the host key cannot be read through it")
}
