package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/connpool/connpool/test/controlplane"
	"github.com/connpool/connpool/test/netfault"
)

// startServices makes the addresses of Services lead to their pods.
func (n *Node) startServices(ctx context.Context) error {
	if !n.services || n.worker {
		return nil
	}
	// Programs on this machine, such as kube-apiserver, use Services as well. The route
	// gives their packets the address of the node.
	if err := ip(ctx, "route", "add", controlplane.ServiceNetwork, "dev", n.link.name); err != nil {
		return fmt.Errorf("another cluster on this machine may have Services: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("let pods reach those of other nodes: %w", err)
	}
	if err := n.admitPods(ctx); err != nil {
		return err
	}
	program := filepath.Join(n.programs, "kube-proxy")
	if err := os.WriteFile(rulesFile(n.Dir), []byte(program), 0o600); err != nil {
		return err
	}
	if out, err := guard(ctx, "-A"); err != nil {
		return fmt.Errorf("iptables: %w: %s", err, out)
	}
	return n.launch("kube-proxy", program, n.proxyFlags()...)
}

// admitPods lets pods reach kube-apiserver, which listens on loopback only, at the node's
// address, and makes that the end of its Service.
func (n *Node) admitPods(ctx context.Context) (err error) {
	target := strings.TrimPrefix(n.access.Config.Host, "https://")
	if n.gateway, err = netfault.Start(target, netfault.Options{Address: net.JoinHostPort(n.Address, "0")}); err != nil {
		return err
	}
	_, text, err := net.SplitHostPort(n.gateway.Addr)
	if err != nil {
		return err
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(n.access.Config)
	if err != nil {
		return err
	}
	slices := api.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	err = slices.Delete(ctx, "kubernetes", metav1.DeleteOptions{}) // an earlier node's
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	_, err = slices.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{n.Address}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(port))}},
	}, metav1.CreateOptions{})
	return err
}

// APIServer returns the host and port at which pods reach kube-apiserver, which is there
// called kubernetes.default.svc, beside its Service.
func (n *Node) APIServer() string { return n.gateway.Addr }

// guard adds (-A) or deletes (-D) the rule that drops what no rule of kube-proxy has led to
// a pod. The kernel would track such a connection as it is until it times out, so that a
// first packet a moment before its Service's rule makes it fail with "no route to host". A
// packet that is dropped is not tracked: its sender repeats it after a second, and it meets
// the rule.
func guard(ctx context.Context, operation string) ([]byte, error) {
	path, err := find("iptables")
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, path, "--wait", "-t", "mangle", operation, "POSTROUTING",
		"-d", controlplane.ServiceNetwork, "-j", "DROP").CombinedOutput()
}

// rulesFile holds the path of the kube-proxy whose rules the kernel may still have.
func rulesFile(dir string) string { return filepath.Join(dir, "rules") }

func removeRules(dir string) {
	program, err := os.ReadFile(rulesFile(dir))
	if err != nil {
		return
	}
	_ = exec.Command(string(program), "--cleanup").Run()
	_, _ = guard(context.Background(), "-D")
	_ = os.Remove(rulesFile(dir))
}
