// Package ansible reads the hosts of inventories of Ansible, in both of their forms.
//
// Trade-off: it reads one file. What Ansible finds beside it, in group_vars and host_vars,
// and what plugins would add, is not read.
package ansible

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// Names of Ansible's own groups.
const (
	groupAll       = "all"
	groupUngrouped = "ungrouped"
)

// inventory is an inventory while it is read.
type inventory struct {
	hosts.Inventory
	hosts.Jumps

	defaults hosts.Defaults
	groups   map[string]*group
	vars     map[string]map[string]string // of hosts
	order    []string                     // the hosts, as the file has them
	done     map[string]*hosts.Host
	reading  map[string]bool
}

type group struct {
	hosts    []string
	vars     map[string]string
	children []string
}

// Read reads an inventory in either form: INI, or YAML if the path ends so.
func Read(text []byte, path string, defaults hosts.Defaults) (*hosts.Inventory, error) {
	a := &inventory{
		defaults: defaults, groups: map[string]*group{}, vars: map[string]map[string]string{},
		done: map[string]*hosts.Host{}, reading: map[string]bool{},
	}
	a.Named, a.Other = a.named, a.unnamed
	read := a.readINI
	if strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".yaml") {
		read = a.readYAML
	}
	if err := read(string(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range a.order {
		if _, err := a.named(name, 0); err != nil {
			a.Notef("%s is left out: %v", name, err)
		}
	}
	a.Hosts = append(a.Hosts, a.Made...)
	a.NoteIgnored()
	return &a.Inventory, nil
}

func (a *inventory) group(name string) *group {
	if a.groups[name] == nil {
		a.groups[name] = &group{vars: map[string]string{}}
	}
	return a.groups[name]
}

var errTooManyHosts = fmt.Errorf("it has more than %d hosts: split it", hosts.MaxHosts)

// add puts the hosts of a pattern into a group.
func (a *inventory) add(in, pattern string, vars map[string]string) error {
	names, err := expand(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		if a.vars[name] == nil {
			a.vars[name] = map[string]string{}
			a.order = append(a.order, name)
		}
		maps.Copy(a.vars[name], vars)
		g := a.group(in)
		g.hosts = append(g.hosts, name)
	}
	if len(a.order) > hosts.MaxHosts {
		return errTooManyHosts
	}
	return nil
}

// groupsOf returns the groups of a host, those that are above others first, as far as
// they are above: their variables count less.
func (a *inventory) groupsOf(host string) []string {
	above := map[string]int{} // how many levels a group is above the host
	var climb func(name string, levels int)
	climb = func(name string, levels int) {
		if was, seen := above[name]; seen && was >= levels || levels > len(a.groups) {
			return
		}
		above[name] = levels
		for parent, g := range a.groups {
			if slices.Contains(g.children, name) {
				climb(parent, levels+1)
			}
		}
	}
	for name, g := range a.groups {
		if slices.Contains(g.hosts, host) {
			climb(name, 1)
		}
	}
	delete(above, groupAll)
	names := slices.SortedFunc(maps.Keys(above), func(x, y string) int { return cmp.Or(above[y]-above[x], strings.Compare(x, y)) })
	if a.groups[groupAll] != nil {
		names = append([]string{groupAll}, names...)
	}
	return names
}

// varsOf returns the variables of a host with those of its groups.
func (a *inventory) varsOf(host string) map[string]string {
	all := map[string]string{}
	for _, name := range a.groupsOf(host) {
		maps.Copy(all, a.groups[name].vars)
	}
	maps.Copy(all, a.vars[host])
	return all
}

// named returns the host of a name; nil if the inventory has none.
func (a *inventory) named(name string, depth int) (*hosts.Host, error) {
	if host, ok := a.done[name]; ok {
		if host == nil {
			return nil, fmt.Errorf("%s is left out", name)
		}
		return host, nil
	}
	if a.vars[name] == nil {
		return nil, nil //nolint:nilnil // it is no host of the inventory, which is no error
	}
	if a.reading[name] {
		return nil, hosts.ErrTooManyJumps
	}
	a.reading[name] = true
	defer delete(a.reading, name)
	host, err := a.read(name, depth)
	a.done[name] = host
	if err != nil {
		return nil, err
	}
	for _, in := range a.groupsOf(name) {
		if in != groupAll && in != groupUngrouped {
			host.Groups = append(host.Groups, in)
		}
	}
	a.Hosts = append(a.Hosts, host)
	return host, nil
}

// unnamed returns a jump host that the inventory does not have.
func (a *inventory) unnamed(name string, _ int) (*hosts.Host, error) {
	address, err := sshhost.ParseAddress(name)
	address.User = a.defaults.User
	return &hosts.Host{Name: name, Address: address, JumpOnly: true}, err
}

// Variables that mean the same, the newest name first.
var (
	varHost    = []string{"ansible_host", "ansible_ssh_host"}
	varPort    = []string{"ansible_port", "ansible_ssh_port"}
	varUser    = []string{"ansible_user", "ansible_ssh_user"}
	varKey     = []string{"ansible_ssh_private_key_file", "ansible_private_key_file"}
	varSecret  = []string{"ansible_password", "ansible_ssh_pass", "ansible_ssh_password"}
	varArgs    = []string{"ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"}
	varConnect = []string{"ansible_connection"}
)

// read makes a host of its variables. Its error says why it is left out.
func (a *inventory) read(name string, depth int) (*hosts.Host, error) {
	vars := a.varsOf(name)
	value := func(names []string) string {
		for _, name := range names {
			if vars[name] != "" {
				return vars[name]
			}
		}
		return ""
	}
	host := &hosts.Host{Name: name, Password: value(varSecret) != "", KeyFile: sshhost.ExpandHome(value(varKey))}
	if connection := value(varConnect); !slices.Contains([]string{"", "ssh", "smart", "paramiko", "paramiko_ssh"}, connection) {
		return nil, fmt.Errorf("its ansible_connection is %s, and only ssh can be carried over", connection)
	}
	for _, word := range []string{name, value(varHost), value(varPort), value(varUser), value(varKey)} {
		if strings.Contains(word, "{{") {
			return nil, fmt.Errorf("%q is a template, which only Ansible can fill in", word)
		}
	}
	address, err := sshhost.ParseAddress(cmp.Or(value(varHost), name))
	if err != nil {
		return nil, err
	}
	address.User = cmp.Or(value(varUser), address.User, a.defaults.User)
	if port := value(varPort); port != "" {
		if address.Port, err = sshhost.ParsePort(port); err != nil {
			return nil, err
		}
	}
	host.Address = address
	if host.Password && host.KeyFile != "" {
		a.Ignore("a password beside a private key", name)
	}
	host.Jump, err = a.jump(name, vars, depth)
	a.noteOthers(name, vars)
	return host, err
}

// jumpArgs finds the jump hosts in options of ssh: -J HOST, -o ProxyJump=HOST, and a
// ProxyCommand that does the same.
var jumpArgs = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`-J ?(\S+)|-o ?["']?(?i:ProxyJump)[= ]([^\s"']+)["']?|` +
		`-o ?["']?(?i:ProxyCommand)[= ]?["']?ssh (?:-q )?-W (?:%h:%p|\[%h\]:%p) (?:-q )?([^\s"'-][^\s"']*)["']*`)
})

// jump returns the jump host that options of ssh name, and notes what else they say.
func (a *inventory) jump(name string, vars map[string]string, depth int) (*hosts.Host, error) {
	var via *hosts.Host
	for _, variable := range varArgs {
		args := vars[variable]
		for _, found := range jumpArgs().FindAllStringSubmatch(args, -1) {
			var err error
			if via, err = a.Chain(cmp.Or(found[1], found[2], found[3]), depth); err != nil {
				return nil, err
			}
		}
		rest := strings.TrimSpace(jumpArgs().ReplaceAllString(args, ""))
		if strings.Contains(strings.ToLower(rest), "proxycommand") {
			return nil, errors.New("a ProxyCommand cannot be carried over; make its jump host a target, and name it in jumpTargetRef")
		}
		if rest != "" {
			a.Ignore(variable+" "+rest, name)
		}
	}
	return via, nil
}

// noteOthers says which variables have no place in a target.
func (a *inventory) noteOthers(name string, vars map[string]string) {
	known := slices.Concat(varHost, varPort, varUser, varKey, varSecret, varArgs, varConnect)
	for variable := range vars {
		switch {
		case slices.Contains(known, variable):
		case strings.HasPrefix(variable, "ansible_"):
			a.Ignore(variable, name)
		default:
			a.Ignore("variable "+variable, name)
		}
	}
}
