// Package sshconfig reads the hosts of a file of ssh_config.
//
// Trade-off: the library for ssh_config reads neither most kinds of Match nor the hosts of
// included files, so both are resolved before it sees the text.
package sshconfig

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/kevinburke/ssh_config"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// carried are the keywords of ssh_config that a target has a place for, or that only say
// to which hosts others apply.
var carried = []string{
	"hostname", "port", "user", "identityfile", "proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "certificatefile",
	"stricthostkeychecking",
}

// sshConfig is a file of ssh_config while it is read.
type sshConfig struct {
	hosts.Inventory
	hosts.Jumps

	config   *ssh_config.Config
	defaults hosts.Defaults
	// concrete are the names in the file, and aliases the hosts that were made of them so
	// far. A nil one is left out.
	concrete map[string]bool
	aliases  map[string]*hosts.Host
	reading  map[string]bool
}

// Read reads a file of ssh_config, whose path is for includes.
func Read(text []byte, path string, readers Readers, defaults hosts.Defaults) (*hosts.Inventory, error) {
	c := &sshConfig{defaults: defaults, concrete: map[string]bool{}, aliases: map[string]*hosts.Host{}, reading: map[string]bool{}}
	c.Named, c.Other = c.named, c.unnamed
	flat := flattener{readers: readers, note: c.Notef}
	config, err := ssh_config.DecodeBytes([]byte(flat.file(string(text), path, 0)))
	if err != nil {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "ssh_config: "))
	}
	c.config = config
	names := c.names()
	for _, name := range names {
		if _, err := c.named(name, 0); err != nil {
			c.Notef("%s is left out: %v", name, err)
		}
	}
	c.Hosts = append(c.Hosts, c.Made...)
	c.NoteIgnored()
	return &c.Inventory, nil
}

// names returns the names after Host that are no patterns, in the order of the file.
func (c *sshConfig) names() []string {
	var names []string
	for _, block := range c.config.Hosts {
		for _, pattern := range block.Patterns {
			name := pattern.String()
			if strings.ContainsAny(name, "*?!") || c.concrete[name] || !block.Matches(name) || len(names) == hosts.MaxHosts {
				continue
			}
			c.concrete[name] = true
			names = append(names, name)
		}
	}
	return names
}

// setting is a keyword with its values, as the file has them.
type setting struct {
	keyword string
	values  []string
}

// settings returns what the file says about a name. Of all keywords but IdentityFile, the
// first value counts.
func (c *sshConfig) settings(name string) map[string]*setting {
	found := map[string]*setting{}
	for _, block := range c.config.Hosts {
		if !block.Matches(name) {
			continue
		}
		for _, node := range block.Nodes {
			kv, ok := node.(*ssh_config.KV)
			if !ok {
				continue
			}
			key := strings.ToLower(kv.Key)
			if found[key] == nil {
				found[key] = &setting{keyword: kv.Key}
			}
			found[key].values = append(found[key].values, kv.Value)
		}
	}
	return found
}

// named returns the host that the file has under a name; nil if it has none.
func (c *sshConfig) named(name string, depth int) (*hosts.Host, error) {
	if host, ok := c.aliases[name]; ok {
		if host == nil {
			return nil, fmt.Errorf("%s is left out", name)
		}
		return host, nil
	}
	if !c.concrete[name] {
		return nil, nil //nolint:nilnil // it is no host of the file, which is no error
	}
	if c.reading[name] {
		return nil, hosts.ErrTooManyJumps
	}
	c.reading[name] = true
	defer delete(c.reading, name)
	host, err := c.read(name, depth)
	c.aliases[name] = host
	if err != nil {
		return nil, err
	}
	for _, other := range c.Hosts {
		if hosts.Same(other, host) {
			c.Notef("%s is the same host as %s", name, other.Name)
			c.aliases[name] = other
			return other, nil
		}
	}
	c.Hosts = append(c.Hosts, host)
	return host, nil
}

// unnamed returns a host that only patterns are about.
func (c *sshConfig) unnamed(name string, depth int) (*hosts.Host, error) {
	host, err := c.read(name, depth)
	if err != nil {
		return nil, err
	}
	host.JumpOnly = true
	return host, nil
}

// read makes a host of what the file says about a name. Its error says why it is left out.
func (c *sshConfig) read(name string, depth int) (*hosts.Host, error) {
	found := c.settings(name)
	first := func(key string) string {
		if s := found[key]; s != nil {
			return s.values[0]
		}
		return ""
	}
	host := &hosts.Host{Name: name, KeyAlias: first("hostkeyalias")}
	host.User = cmp.Or(first("user"), c.defaults.User)
	hostname := strings.NewReplacer("%h", name, "%%", "%").Replace(cmp.Or(first("hostname"), name))
	address, err := sshhost.ParseAddress(hostname)
	if err != nil {
		return nil, err
	}
	host.Host, host.Port = address.Host, sshhost.DefaultPort
	if port := first("port"); port != "" {
		if host.Port, err = sshhost.ParsePort(port); err != nil {
			return nil, err
		}
	}
	host.Jump, err = c.jump(first("proxyjump"), first("proxycommand"), depth)
	if err != nil {
		return nil, err
	}
	if keys := found["identityfile"]; keys != nil {
		host.KeyFile = c.keyFile(host, keys.values)
	}
	c.noteOthers(name, found)
	return host, nil
}

// throughSSH is a ProxyCommand that does what ProxyJump does.
var throughSSH = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:\S*/)?ssh (?:-q )?-W (?:%h:%p|\[%h\]:%p) (?:-q )?([^\s-]\S*)$`)
})

// jump returns the jump host of a host, from either keyword.
func (c *sshConfig) jump(proxyJump, proxyCommand string, depth int) (*hosts.Host, error) {
	if words := throughSSH().FindStringSubmatch(strings.TrimSpace(proxyCommand)); words != nil && proxyJump == "" {
		proxyJump, proxyCommand = words[1], ""
	}
	switch {
	case proxyJump != "" && !strings.EqualFold(proxyJump, "none"):
		return c.Chain(proxyJump, depth)
	case proxyJump == "" && proxyCommand != "" && !strings.EqualFold(proxyCommand, "none"):
		return nil, errors.New("a ProxyCommand cannot be carried over; make its jump host a target, and name it in jumpTargetRef")
	}
	return nil, nil //nolint:nilnil // there is none, which is no error
}

// keyFile returns the first key file, with ssh's tokens replaced.
func (c *sshConfig) keyFile(host *hosts.Host, files []string) string {
	if len(files) > 1 {
		c.Notef("of the keys of %s only the first is used, %s", host.Name, files[0])
	}
	if strings.EqualFold(files[0], "none") {
		return ""
	}
	tokens := strings.NewReplacer("%h", host.Host, "%r", host.User, "%d", "~", "%%", "%")
	return sshhost.ExpandHome(tokens.Replace(files[0]))
}

// noteOthers says what of the settings has no place in a target.
func (c *sshConfig) noteOthers(name string, found map[string]*setting) {
	if file := found["userknownhostsfile"]; file != nil {
		for word := range strings.FieldsSeq(file.values[0]) {
			if word != "/dev/null" && !slices.Contains(c.KnownHosts, word) {
				c.KnownHosts = append(c.KnownHosts, sshhost.ExpandHome(word))
			}
		}
	}
	if check := found["stricthostkeychecking"]; check != nil && !strings.EqualFold(check.values[0], "yes") {
		c.Notef("StrictHostKeyChecking %s is not carried over: connpool always checks the host key", check.values[0])
	}
	if certificate := found["certificatefile"]; certificate != nil {
		c.Notef("CertificateFile %s of %s: add it to the Secret under the key ssh-certificate", certificate.values[0], name)
	}
	for key, s := range found {
		if !slices.Contains(carried, key) {
			c.Ignore(s.keyword, name)
		}
	}
}
