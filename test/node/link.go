package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// link is the bridge that the node and its pods are on.
type link struct {
	name   string
	number int
}

// maxLinks is how many nodes a machine may have.
const maxLinks = 64

// podNetwork has the networks of all nodes.
const podNetwork = "10.213.0.0/16"

// prefix of the node's network; the node is .1 in it.
func (l link) prefix() string { return fmt.Sprintf("10.213.%d", l.number) }

func (l link) subnet() string  { return l.prefix() + ".0/24" }
func (l link) address() string { return l.prefix() + ".1" }

// addLink makes the first bridge that is free. The cleanup removes the link whose
// name is written down, so the name is written first.
func (n *Node) addLink(ctx context.Context) error {
	for number := range maxLinks {
		l := link{fmt.Sprintf("connpool%d", number), number}
		if _, err := net.InterfaceByName(l.name); err == nil {
			continue
		}
		if err := os.WriteFile(linkFile(n.Dir), []byte(l.name), 0o600); err != nil {
			return err
		}
		if err := ip(ctx, "link", "add", l.name, "type", "bridge"); err != nil {
			if _, taken := net.InterfaceByName(l.name); taken == nil {
				continue // another node was faster
			}
			return errors.Join(err, os.Remove(linkFile(n.Dir)))
		}
		n.link, n.Address = l, l.address()
		return errors.Join(
			ip(ctx, "address", "add", l.address()+"/24", "dev", l.name),
			ip(ctx, "link", "set", l.name, "up"))
	}
	return fmt.Errorf("%d nodes run on this machine, or have left their links connpool0 and so on behind", maxLinks)
}

func linkFile(dir string) string { return filepath.Join(dir, "link") }

func removeLink(dir string) {
	name, err := os.ReadFile(linkFile(dir))
	if err != nil {
		return
	}
	_ = ip(context.Background(), "link", "delete", string(name))
	_ = os.Remove(linkFile(dir))
}

func ip(ctx context.Context, args ...string) error {
	path, err := find("ip")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// find looks for a program in PATH and in the folders for root's programs.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: hack/install-test-deps.sh installs it", program)
}
