package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// place is where in a target something happens: in a container of a Docker engine,
// or in a pod of a cluster. It is zero on a host.
type place struct {
	container string
	pod       string
	// namespace of the pod; that of -n is the pool's.
	namespace string
}

func (p *place) register(flags *pflag.FlagSet) {
	flags.StringVarP(&p.container, "container", "c", "", "Container to run in: of a Docker engine, or of the pod")
	p.registerPod(flags)
}

func (p *place) registerPod(flags *pflag.FlagSet) {
	flags.StringVar(&p.pod, "pod", "", "Pod of the cluster that the target is")
	flags.StringVar(&p.namespace, "pod-namespace", "", "Namespace of the pod; that of the target when absent")
}

// isHost reports that it is on the target itself.
func (p *place) isHost() bool { return p.container == "" && p.pod == "" }

func (p *place) validate() error {
	switch {
	case p.namespace != "" && p.pod == "":
		return errors.New("--pod-namespace says where a pod is: name the pod with --pod")
	case strings.Contains(p.pod, "/"):
		return fmt.Errorf("--pod %q is no name: write only the name, and its namespace with --pod-namespace", p.pod)
	case strings.Contains(p.container, "/"):
		return fmt.Errorf("--container %q is neither a name nor an ID", p.container)
	}
	return nil
}
