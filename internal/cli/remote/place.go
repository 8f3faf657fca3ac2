package remote

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Place is a container of a Docker engine, or a pod of a cluster. It is zero for
// the target itself.
type Place struct {
	Container string
	Pod       string
	// Namespace of the pod. The namespace of -n is the pool's.
	Namespace string
}

// Register adds the flags of a place.
func (p *Place) Register(flags *pflag.FlagSet) {
	flags.StringVarP(&p.Container, "container", "c", "", "Container to run in: of a Docker engine, or of the pod")
	p.RegisterPod(flags)
}

// RegisterPod adds the flags of a place that can only be a pod.
func (p *Place) RegisterPod(flags *pflag.FlagSet) {
	flags.StringVar(&p.Pod, "pod", "", "Pod of the cluster that the target is")
	flags.StringVar(&p.Namespace, "pod-namespace", "", "Namespace of the pod; that of the target when absent")
}

// IsTarget reports whether the place is the target itself.
func (p *Place) IsTarget() bool { return p.Container == "" && p.Pod == "" }

// Validate refuses flags that name no place.
func (p *Place) Validate() error {
	switch {
	case p.Namespace != "" && p.Pod == "":
		return errors.New("--pod-namespace says where a pod is: name the pod with --pod")
	case strings.Contains(p.Pod, "/"):
		return fmt.Errorf("--pod %q is no name: write only the name, and its namespace with --pod-namespace", p.Pod)
	case strings.Contains(p.Container, "/"):
		return fmt.Errorf("--container %q is neither a name nor an ID", p.Container)
	}
	return nil
}
