package node

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/connpool/connpool/test/controlplane"
)

var (
	//go:embed containerd.toml
	containerdConfig string
	//go:embed kubelet.yaml
	kubeletConfig string
	//go:embed network.json
	networkConfig string
)

// settings are the variable parts of the configuration files.
type settings struct {
	Dir, Socket, Address, Subnet, Link string
	ControlGroup, Authority            string
	// Services and Pods are the networks that pods reach through the node; none when
	// empty.
	Services, Pods           string
	Pause, Runc, Snapshotter string
	// Restricted is true where this process may not lower the score by which the
	// kernel chooses which process to kill; runc would fail without a useful message.
	Restricted bool
}

// configure writes all files of configuration.
func (n *Node) configure(context.Context) error {
	runc, err := find("runc")
	if err != nil {
		return err
	}
	cert, key, authority, err := n.access.Kubelet(n.Name, net.ParseIP(n.Address))
	if err != nil {
		return err
	}
	s := settings{
		Dir: n.Dir, Socket: n.Socket(), Address: n.Address, Subnet: n.link.subnet(), Link: n.link.name,
		ControlGroup: n.controlGroup(), Authority: authority,
		Pause: pauseImage, Runc: runc, Snapshotter: snapshotter(n.Dir), Restricted: !mayRaise(),
	}
	if n.services {
		s.Services, s.Pods = controlplane.ServiceNetwork, podNetwork
	}
	var failed []error
	for _, dir := range []string{"networks", "kubelet", "logs"} {
		failed = append(failed, os.MkdirAll(n.path(dir), 0o700))
	}
	failed = append(failed,
		n.writeTemplate("containerd.toml", containerdConfig, s),
		n.writeTemplate("kubelet.yaml", kubeletConfig, s),
		n.writeTemplate("networks/10-connpool.conflist", networkConfig, s),
		n.write("kubelet.crt", cert), n.write("kubelet.key", key),
		n.writeKubeconfig("kubelet", "system:node:"+n.Name, "system:nodes"),
		// It acts for all of its controllers, each of which has a role elsewhere.
		n.writeKubeconfig("kube-controller-manager", "system:kube-controller-manager", "system:masters"),
		n.writeKubeconfig("kube-scheduler", "system:kube-scheduler"),
		n.writeKubeconfig("kube-proxy", "system:kube-proxy"))
	return errors.Join(failed...)
}

func (n *Node) writeTemplate(name, text string, s settings) error {
	parsed, err := template.New(name).Parse(text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, s); err != nil {
		return err
	}
	return n.write(name, out.Bytes())
}

func (n *Node) writeKubeconfig(program, user string, groups ...string) error {
	config, err := n.access.User(user, groups...)
	if err != nil {
		return err
	}
	kubeconfig, err := controlplane.Kubeconfig(config)
	if err != nil {
		return err
	}
	return n.write(program+".kubeconfig", kubeconfig)
}

func (n *Node) write(name string, data []byte) error { return os.WriteFile(n.path(name), data, 0o600) }

func (n *Node) kubeletFlags() []string {
	return []string{
		"--config=" + n.path("kubelet.yaml"),
		"--kubeconfig=" + n.path("kubelet.kubeconfig"),
		"--hostname-override=" + n.Name,
		"--node-ip=" + n.Address,
		"--root-dir=" + n.path("kubelet"),
		"--cert-dir=" + n.path("kubelet"),
	}
}

func (n *Node) controllerFlags() []string {
	return []string{
		"--kubeconfig=" + n.path("kube-controller-manager.kubeconfig"),
		"--service-account-private-key-file=" + n.access.ServiceAccountKeyFile(),
		"--root-ca-file=" + n.access.AuthorityFile(),
		"--leader-elect=false",
		"--flex-volume-plugin-dir=" + n.path("kubelet/plugins"),
		"--secure-port=0", // its metrics are not used
	}
}

func (n *Node) schedulerFlags() []string {
	return []string{
		"--kubeconfig=" + n.path("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
	}
}

func (n *Node) proxyFlags() []string {
	return []string{
		"--kubeconfig=" + n.path("kube-proxy.kubeconfig"),
		"--hostname-override=" + n.Name,
		"--proxy-mode=iptables",
		"--cluster-cidr=" + podNetwork,
		"--iptables-min-sync-period=100ms",
		// Nothing reads these, and the limits are the machine's.
		"--healthz-bind-address=", "--metrics-bind-address=",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}
}

// snapshotter is overlayfs, or the one that copies layers if the directory itself is
// on an overlay, as in a container.
func snapshotter(dir string) string {
	const overlay = 0x794c7630
	var at syscall.Statfs_t
	if err := syscall.Statfs(dir, &at); err == nil && at.Type == overlay {
		return "native"
	}
	return "overlayfs"
}

// mayRaise reports whether this process has CAP_SYS_RESOURCE.
func mayRaise() bool {
	const capSysResource = 24
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(status), "CapEff:")
	mask, _, _ := strings.Cut(after, "\n")
	capabilities, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	return err == nil && capabilities&(1<<capSysResource) != 0
}
