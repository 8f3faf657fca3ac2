package plugin

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/exit"
)

// Unbounded is the most of Args for a command that takes any number of words.
const Unbounded = -1

// Args refuses fewer or more words than a command takes, and says which one is missing:
// words are called what the usage of the command calls them.
func Args(least, most int) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			names := strings.Fields(command.Use)[1:]
			name := strings.TrimSuffix(names[min(len(args), len(names)-1)], "...")
			return exit.Hint(fmt.Errorf("%s is missing", name), "Usage: %s", command.UseLine())
		case most != Unbounded && len(args) > most:
			return exit.Hint(fmt.Errorf("%q is one word too many", args[most]), "Usage: %s", command.UseLine())
		}
		return nil
	}
}
