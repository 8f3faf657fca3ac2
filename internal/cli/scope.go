package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// scope is the namespace that a command is about, or all of them.
type scope struct {
	all       bool
	namespace string
}

var errNameAndAll = errors.New("a name and --all-namespaces exclude each other: names are of one namespace")

func (s *scope) register(command *cobra.Command) {
	command.Flags().BoolVarP(&s.all, "all-namespaces", "A", false, "Of all namespaces")
}

func (s *scope) complete(f *factory) (err error) {
	if !s.all {
		s.namespace, err = f.namespace()
	}
	return err
}

// where says in what it was looked.
func (s *scope) where() string {
	if s.all {
		return " in any namespace"
	}
	return " in namespace " + s.namespace
}

// poolAndTarget reads POOL or POOL/TARGET.
func poolAndTarget(argument string) (pool, target string) {
	pool, target, _ = strings.Cut(argument, "/")
	return pool, target
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
