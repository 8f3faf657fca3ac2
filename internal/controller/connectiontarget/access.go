package connectiontarget

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// Keys of Secrets that the operator reads itself, and keys under which the drivers
// get their credentials.
const (
	authorityKey  = "ca.crt"
	kubeconfigKey = "kubeconfig"
)

// dockerKeys are the keys of the Secret of a docker target.
var dockerKeys = []string{authorityKey, "tls.crt", "tls.key"}

// Drivers are the protocols that this build speaks.
type Drivers map[v1alpha1.TargetType]driver.Driver

// access describes how to reach the first element of the path through the others,
// which are its jump hosts.
func access(path []pathElement, drivers Drivers) poolset.Access {
	here := path[0]
	a := here.access()
	a.Driver = drivers[here.target.Spec.Type()]
	if len(path) > 1 {
		jumpHost := path[1]
		a.JumpHost = &poolset.JumpHost{Ref: refOf(jumpHost.target), Access: access(path[1:], drivers)}
		// The same address through another host may be another machine.
		a.Identity += " via " + string(jumpHost.target.UID) + " " + a.JumpHost.Identity
	}
	return a
}

func refOf(target *v1alpha1.ConnectionTarget) poolset.Ref {
	return poolset.Ref{UID: string(target.UID), Namespace: target.Namespace, Name: target.Name}
}

// access describes how to reach the element itself, without its jump hosts.
func (e pathElement) access() poolset.Access {
	switch spec := e.target.Spec; {
	case spec.Docker != nil:
		return e.dockerAccess(spec.Docker)
	case spec.Kubernetes != nil:
		return e.kubernetesAccess(spec.Kubernetes)
	default:
		return e.sshAccess(spec.SSH)
	}
}

func (e pathElement) sshAccess(ssh *v1alpha1.SSHTarget) poolset.Access {
	return poolset.Access{
		Endpoint: driver.Endpoint{
			Address:      addressOf(ssh),
			User:         ssh.User,
			LoginTimeout: seconds(ptr.Deref(ssh.LoginTimeoutSeconds, 0)),
			Credentials:  e.secret.Data,
			KnownHosts:   e.knownHosts,
		},
		Identity: ssh.User + "@" + addressOf(ssh),
		// A dialer keeps its timeout, so another one is another version.
		Version: digestOf(e.secret.Data) + fmt.Sprintf(" %d", ptr.Deref(ssh.LoginTimeoutSeconds, 0)),
		Trust:   digestOf(map[string][]byte{"known_hosts": e.knownHosts}),
	}
}

func (e pathElement) dockerAccess(docker *v1alpha1.DockerTarget) poolset.Access {
	network, address := dockerAddress(docker)
	var keys map[string][]byte
	if e.secret != nil {
		keys = maps.Clone(e.secret.Data)
		maps.DeleteFunc(keys, func(name string, _ []byte) bool { return !slices.Contains(dockerKeys, name) })
	}
	return poolset.Access{
		Endpoint: driver.Endpoint{Network: network, Address: address, Credentials: keys},
		Identity: docker.Endpoint,
		Version:  digestOf(keys),
		Trust:    digestOf(map[string][]byte{authorityKey: keys[authorityKey]}),
	}
}

func (e pathElement) kubernetesAccess(kubernetes *v1alpha1.KubernetesTarget) poolset.Access {
	kubeconfig := e.secret.Data[kubernetes.KubeconfigRef.Key]
	a := poolset.Access{
		Endpoint: driver.Endpoint{
			Network:     "tcp",
			Address:     e.cluster.address,
			Credentials: map[string][]byte{kubeconfigKey: kubeconfig},
			Context:     ptr.Deref(kubernetes.Context, ""),
			Namespace:   ptr.Deref(kubernetes.DefaultNamespace, ""),
		},
		// Connections are made with these, so the version changes with them.
		Version: digestOf(map[string][]byte{
			kubeconfigKey: kubeconfig, "namespace": []byte(ptr.Deref(kubernetes.DefaultNamespace, "")),
		}),
		Trust: digestOf(map[string][]byte{authorityKey: e.cluster.authority}),
	}
	if e.cluster.server != "" { // an empty identity means: the same as before
		a.Identity = fmt.Sprintf("%s as %q in context %q", e.cluster.server, e.cluster.serverName, a.Endpoint.Context)
	}
	return a
}

// digestOf returns a digest of the data.
func digestOf(data map[string][]byte) string {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(hash, "%q=%q\n", key, data[key])
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func addressOf(ssh *v1alpha1.SSHTarget) string {
	return net.JoinHostPort(ssh.Host, strconv.Itoa(int(ptr.Deref(ssh.Port, 22))))
}

// dockerAddress splits the endpoint. The API server has checked its form.
func dockerAddress(docker *v1alpha1.DockerTarget) (network, address string) {
	if path, ok := strings.CutPrefix(docker.Endpoint, "unix://"); ok {
		return "unix", path
	}
	return "tcp", strings.TrimPrefix(docker.Endpoint, "tcp://")
}

// endpointOf returns where the target is reached, for people; empty if that is not
// known.
func endpointOf(f facts) string {
	switch spec := f.target.Spec; {
	case spec.Docker != nil && spec.Docker.SSHTargetRef != nil:
		return spec.Docker.Endpoint + " via ssh target " + spec.Docker.SSHTargetRef.Name
	case spec.Docker != nil:
		return spec.Docker.Endpoint
	case spec.Kubernetes != nil && len(f.path) > 0:
		return f.path[0].cluster.server
	case spec.SSH != nil:
		return spec.SSH.User + "@" + addressOf(spec.SSH)
	}
	return ""
}
