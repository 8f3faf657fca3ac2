package cp

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/connpool/connpool/internal/cli/exit"
)

// resumeCommand returns the command line that goes on with this copy.
func (o *options) resumeCommand(command *cobra.Command, args []string) string {
	if command == nil {
		return ""
	}
	words := []string{o.Name, "cp", "--resume"}
	command.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "resume" && f.Name != "token" {
			words = append(words, quoted("--"+f.Name+"="+f.Value.String()))
		}
	})
	for _, arg := range args {
		words = append(words, quoted(arg))
	}
	return strings.Join(words, " ")
}

// plain are words that every shell takes as they are.
var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\\''`) + "'"
}

// withNextStep adds how to go on, if there is a part to go on with.
func (o *options) withNextStep(err error) error {
	if err == nil || !o.kept.Load() || o.again == "" {
		return err
	}
	return exit.Hint(err, "What has arrived is kept. To go on from there:\n\n  %s", o.again)
}
