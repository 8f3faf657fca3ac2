package importer

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// maxLabelName is how long the name of a pool may be that is part of a label.
const maxLabelName = 63

func isLabelName(name string) bool { return len(name) <= maxLabelName && cluster.IsName(name) }

// builder turns hosts into objects.
type builder struct {
	inventory *hosts.Inventory
	keys      map[*hosts.Host]hostKeys
	// secret is that of hosts without a key of their own.
	secret    string
	namespace string

	targets, pools, secrets names
	// made are the names of targets, and left out are the hosts that get none.
	made    map[*hosts.Host]string
	leftOut map[*hosts.Host]bool
}

func newBuilder(inventory *hosts.Inventory, keys map[*hosts.Host]hostKeys, secret, namespace string) *builder {
	return &builder{
		inventory: inventory, keys: keys, secret: secret, namespace: namespace,
		targets: newNames(), pools: newNames(), secrets: newNames(), made: map[*hosts.Host]string{}, leftOut: map[*hosts.Host]bool{},
	}
}

// build returns targets and pools, and adds to the notes what it leaves out or calls by
// another name.
func (b *builder) build() []runtime.Object {
	for _, host := range b.inventory.Hosts {
		b.keep(host)
	}
	var targets, pools []runtime.Object
	groups := map[string]string{} // the pools of groups
	for _, host := range b.inventory.Hosts {
		if b.leftOut[host] {
			continue
		}
		target := b.target(host)
		for _, group := range host.Groups {
			pool, ok := groups[group]
			if !ok {
				pool = b.name(b.pools, "pool", group, maxLabelName)
				groups[group] = pool
				pools = append(pools, sshhost.PoolOfMany(pool, b.namespace))
			}
			maps.Copy(target.Labels, sshhost.PoolLabel(pool))
		}
		if len(host.Groups) == 0 && !host.JumpOnly {
			pool := b.name(b.pools, "pool", target.Name, maxName)
			pools = append(pools, sshhost.PoolOfOne(pool, b.namespace, target.Name))
		}
		targets = append(targets, target.Object())
	}
	return append(targets, pools...)
}

// keep decides whether a host becomes a target. It does not if its jump host does not.
func (b *builder) keep(host *hosts.Host) bool {
	if b.leftOut[host] || b.made[host] != "" {
		return !b.leftOut[host]
	}
	err := b.keys[host].err
	switch {
	case host.TooManyJumps():
		err = hosts.ErrTooManyJumps
	case host.User == "":
		err = errors.New("no user is known; name one with --login")
	case err == nil && host.Jump != nil && !b.keep(host.Jump):
		err = fmt.Errorf("its jump host %s is left out", display.OneLine(host.Jump.Name))
	}
	if err != nil {
		b.inventory.Notef("%s is left out: %v", host.Name, err)
		b.leftOut[host] = true
		return false
	}
	b.made[host] = b.name(b.targets, "target", host.Name, maxName)
	return true
}

// target returns the target of a host that is kept.
func (b *builder) target(host *hosts.Host) *sshhost.Target {
	target := &sshhost.Target{
		Name: b.made[host], Namespace: b.namespace, Address: host.Address, Secret: b.secretOf(host),
		HostKeys: v1alpha1.HostKeys{KnownHosts: b.keys[host].pins}, Labels: map[string]string{},
	}
	if host.Jump != nil {
		target.Jump = b.made[host.Jump]
	}
	return target
}

// secretOf returns the name of a host's Secret, and notes how to make it. Hosts with the
// same key share it.
func (b *builder) secretOf(host *hosts.Host) string {
	var name string
	from := "ssh-privatekey=FILE"
	switch {
	case host.KeyFile != "":
		name = b.secrets.shared("key "+host.KeyFile, filepath.Base(host.KeyFile))
		from = sshhost.Typed("ssh-privatekey=" + host.KeyFile)
	case host.Password:
		name = b.secrets.shared("password "+host.Name, host.Name+"-password")
		from = "password=FILE"
	default:
		name = b.secrets.shared("default", b.secret)
	}
	in := ""
	if b.namespace != "" {
		in = " --namespace " + b.namespace
	}
	b.inventory.Notef("make the Secret %s: kubectl create secret generic %s%s --from-file=%s && kubectl label secret %s%s %s=%s",
		name, name, in, from, name, in, v1alpha1.CredentialsLabel, v1alpha1.CredentialsLabelValue)
	return name
}

// name returns a name that no other object of the kind has, and notes if it is not the one
// of the file.
func (b *builder) name(taken names, kind, wanted string, most int) string {
	name := taken.unique(wanted, most)
	if name != wanted {
		b.inventory.Notef("the %s of %s is called %s", kind, wanted, name)
	}
	return name
}

// maxName is how long the name of an object may be.
const maxName = content.DNS1123SubdomainMaxLength

// names are the names that are taken.
type names struct {
	of    map[string]string // by what has them
	taken map[string]bool
}

func newNames() names { return names{of: map[string]string{}, taken: map[string]bool{}} }

// shared returns the name of a thing, which is the same whenever it is asked for.
func (n names) shared(thing, wanted string) string {
	if n.of[thing] == "" {
		n.of[thing] = n.unique(wanted, maxName)
	}
	return n.of[thing]
}

// unique returns the wanted name, as far as it is valid, with a number behind it if it is
// taken.
func (n names) unique(wanted string, most int) string {
	base := validName(wanted, most)
	name := base
	for number := 2; n.taken[name]; number++ {
		suffix := fmt.Sprintf("-%d", number)
		name = strings.TrimRight(base[:min(len(base), most-len(suffix))], "-.") + suffix
	}
	n.taken[name] = true
	return name
}

// validName makes a name for an object of any text.
func validName(text string, most int) string {
	name := sshhost.NameOf(text)
	name = strings.Trim(name[:min(len(name), most)], "-.")
	if !cluster.IsName(name) {
		name = strings.Trim(strings.ReplaceAll(name, ".", "-"), "-")
	}
	if name == "" {
		return "host"
	}
	return name
}

// comment writes the notes as comments of YAML.
func (o *options) comment(notes []string) {
	fmt.Fprintf(o.Out, "# From %s. Review it, and the fingerprints of its host keys, before you apply it.\n",
		display.OneLine(filepath.Base(o.path)))
	for _, note := range notes {
		fmt.Fprintf(o.Out, "# %s\n", display.OneLine(note))
	}
}
