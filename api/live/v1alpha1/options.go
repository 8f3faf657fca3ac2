package v1alpha1

import (
	"fmt"
	"net/url"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ExecOptions is the query of a streamed command: the query of the Kubernetes
// remote command protocol, and a target. Exactly one of command, shell and subsystem
// is set. For a login shell all three are absent and tty is true.
//
// +kubebuilder:object:root=true
type ExecOptions struct {
	metav1.TypeMeta `json:",inline"`

	// target of the pool, as in ExecSpec.
	// +optional
	Target string `json:"target,omitempty"`
	// container to run in. On docker targets, its name or ID; absent means the only
	// container that runs there. On kubernetes targets, a container of the pod; absent
	// means the pod's default or only container. Refused on ssh targets.
	// +optional
	Container string `json:"container,omitempty"`
	// pod to run in. Required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod. Absent means the target's defaultNamespace. Refused
	// without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// command and its arguments, one parameter each.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// shell is a command line that the remote user's shell interprets.
	// +optional
	Shell string `json:"shell,omitempty"`
	// subsystem names a service of the server, such as sftp. Only ssh targets have
	// subsystems.
	// +optional
	Subsystem string `json:"subsystem,omitempty"`
	// stdin says whether the client sends input.
	// +optional
	Stdin bool `json:"stdin,omitempty"`
	// stdout says whether the client wants the output.
	// +optional
	Stdout bool `json:"stdout,omitempty"`
	// stderr says whether the client wants the error output.
	// +optional
	Stderr bool `json:"stderr,omitempty"`
	// tty asks for a terminal. The error output then arrives on stdout.
	// +optional
	TTY bool `json:"tty,omitempty"`
	// term is the type of the terminal. Absent means xterm.
	// +optional
	Term string `json:"term,omitempty"`
	// env holds NAME=value pairs, one parameter each, as env of ExecSpec. Do not put
	// secrets there: proxies log the query.
	// +optional
	// +listType=atomic
	Env []string `json:"env,omitempty"`
	// spread prefers the connection with the fewest uses, for a stream that could fill one
	// by itself, such as one of several that share the copy of a large file. Absent packs
	// uses onto few connections, so that those beyond minWarm are not kept without need.
	// +optional
	Spread bool `json:"spread,omitempty"`
}

// PortForwardOptions is the query of a port-forward in the Kubernetes protocol.
// Its streams name the port.
//
// +kubebuilder:object:root=true
type PortForwardOptions struct {
	metav1.TypeMeta `json:",inline"`

	// target of the pool, as in ExecSpec.
	// +optional
	Target string `json:"target,omitempty"`
	// pod whose port is forwarded. Required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod. Absent means the target's defaultNamespace. Refused
	// without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// port of the pod, by its number or by the name that a container gives it. The
	// operator then ignores the number of the port in the streams. Absent means that
	// the streams name the port. Refused without pod.
	// +optional
	Port string `json:"port,omitempty"`
	// host that the port belongs to, as seen from the target. Absent means localhost.
	// +optional
	Host string `json:"host,omitempty"`
	// socket is the absolute path of a unix socket on the target. The operator then
	// ignores the number of the port. Absent means that a port is forwarded.
	// +optional
	Socket string `json:"socket,omitempty"`
}

// ProxyOptions is the path after proxy/: the target, then the path in its API.
//
// +kubebuilder:object:root=true
type ProxyOptions struct {
	metav1.TypeMeta `json:",inline"`

	// path is {target}/...
	// +optional
	Path string `json:"path,omitempty"`
}

func (o *ExecOptions) read(query url.Values) error {
	*o = ExecOptions{
		Target:    query.Get("target"),
		Container: query.Get("container"), Pod: query.Get("pod"), Namespace: query.Get("namespace"),
		Command: query["command"], Shell: query.Get("shell"),
		Subsystem: query.Get("subsystem"), Term: query.Get("term"), Env: query["env"],
	}
	for name, into := range map[string]*bool{
		"stdin": &o.Stdin, "stdout": &o.Stdout, "stderr": &o.Stderr, "tty": &o.TTY, "spread": &o.Spread,
	} {
		value, err := readBool(query, name)
		if err != nil {
			return err
		}
		*into = value
	}
	return nil
}

// readBool reads a parameter. One without a value means true.
func readBool(query url.Values, name string) (bool, error) {
	values, ok := query[name]
	if !ok {
		return false, nil
	}
	if values[0] == "" {
		return true, nil
	}
	value, err := strconv.ParseBool(values[0])
	if err != nil {
		return false, fmt.Errorf("%s: %q is neither true nor false", name, values[0])
	}
	return value, nil
}

func (o *PortForwardOptions) read(query url.Values) error {
	*o = PortForwardOptions{
		Target: query.Get("target"), Pod: query.Get("pod"), Namespace: query.Get("namespace"),
		Port: query.Get("port"), Host: query.Get("host"), Socket: query.Get("socket"),
	}
	return nil
}

func (o *ProxyOptions) read(query url.Values) error {
	*o = ProxyOptions{Path: query.Get("path")}
	return nil
}
