package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/test/openssh"
)

// The tools, each with a warm master of OpenSSH for each host.
const (
	clush       = "clush, warm masters"
	parallelSSH = "parallel-ssh, warm masters"
	ansibleRaw  = "ansible -m raw, warm masters"
)

// masters are connections that ssh keeps for its later runs, one for each host.
type masters struct {
	dir   string
	hosts []string
}

// startMasters returns when every master serves. It is to be closed after an error, too.
func startMasters(ctx context.Context, s settings, server *openssh.Server, count int) (*masters, error) {
	m, err := newMasters(server, count)
	if err != nil {
		return m, err
	}
	s.say("start %d masters", count)
	for _, host := range m.hosts {
		if err := m.ssh(ctx, host, "true").Run(); err != nil { // its output is not read: the master would hold it open
			return m, fmt.Errorf("start a master: %w", err)
		}
	}
	return m, nil
}

// newMasters writes what ssh and the tools read, and starts none.
func newMasters(server *openssh.Server, count int) (*masters, error) {
	m := &masters{}
	var err error
	if m.dir, err = os.MkdirTemp("", "bench-"); err != nil { // short, for it is part of the names of sockets
		return m, err
	}
	for i := range count {
		m.hosts = append(m.hosts, fmt.Sprintf("h-%d", i+1))
	}
	host, port := splitAddress(server.Addr)
	config := fmt.Sprintf("HostName %s\nPort %d\nUser %s\n", host, port, server.User) + strings.NewReplacer("DIR", m.dir).Replace(
		"IdentityFile DIR/key\nIdentitiesOnly yes\nBatchMode yes\nLogLevel ERROR\n"+
			"UserKnownHostsFile DIR/known_hosts\nGlobalKnownHostsFile none\nHostKeyAlias fleet\nStrictHostKeyChecking yes\n"+
			"ControlMaster auto\nControlPersist 30m\nControlPath DIR/%n\n")
	for name, content := range map[string]string{
		"key": string(server.PrivateKey), "known_hosts": "fleet " + string(ssh.MarshalAuthorizedKey(server.HostKey)),
		"config": config, "hosts": strings.Join(m.hosts, "\n") + "\n", "ansible.cfg": "",
	} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(content), 0o600); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *masters) ssh(ctx context.Context, arguments ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ssh", append([]string{"-F", filepath.Join(m.dir, "config")}, arguments...)...)
}

func (m *masters) close(ctx context.Context) {
	for _, host := range m.hosts {
		_ = m.ssh(ctx, "-O", "exit", host).Run()
	}
	_ = os.RemoveAll(m.dir)
}

// tools are those that are installed, with as many hosts at once as clush has by default.
func (m *masters) tools() []contender {
	options, hosts := "-F "+filepath.Join(m.dir, "config"), filepath.Join(m.dir, "hosts")
	var found []contender
	for _, tool := range []struct {
		name  string
		words []string
	}{
		{clush, []string{"clush", "-S", "-q", "-f", "64", "-o", options, "--hostfile", hosts, "true"}},
		{parallelSSH, []string{"parallel-ssh", "-h", hosts, "-p", "64", "-t", "0", "-x", options, "true"}},
		{ansibleRaw, []string{"ansible", "all", "-i", hosts, "-f", "64", "-m", "raw", "-a", "true"}},
	} {
		if _, err := exec.LookPath(tool.words[0]); err != nil {
			continue
		}
		found = append(found, contender{tool.name, func(ctx context.Context) error {
			command := exec.CommandContext(ctx, tool.words[0], tool.words[1:]...)
			command.Env = append(os.Environ(),
				"ANSIBLE_CONFIG="+filepath.Join(m.dir, "ansible.cfg"), "ANSIBLE_HOME="+m.dir, "ANSIBLE_SSH_ARGS="+options)
			if output, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %.500s", err, output)
			}
			return nil
		}, 4})
	}
	return found
}
