package plugin

import (
	"errors"

	"github.com/spf13/cobra"
)

// Scope is the namespace that a command is about, or all namespaces.
type Scope struct {
	All bool
	// Namespace is "" for all.
	Namespace string
}

// Register adds -A.
func (s *Scope) Register(command *cobra.Command) {
	command.Flags().BoolVarP(&s.All, "all-namespaces", "A", false, "Of all namespaces")
}

// Complete reads the namespace, unless all are meant, and returns the first
// argument: the name that narrows the scope further, or "".
func (s *Scope) Complete(f *Factory, args []string) (name string, err error) {
	name = first(args)
	switch {
	case s.All && name != "":
		return "", errors.New("a name and --all-namespaces exclude each other: names are of one namespace")
	case !s.All:
		s.Namespace, err = f.Cluster.Namespace()
	}
	return name, err
}

// Where ends a sentence about what was not found.
func (s *Scope) Where() string {
	if s.All {
		return " in any namespace"
	}
	return " in namespace " + s.Namespace
}

// first returns the first argument, or "".
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
