package cp

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
)

// resumeCommand returns the command line that goes on with this copy.
func (o *options) resumeCommand(command *cobra.Command, args []string) string {
	if command == nil {
		return ""
	}
	words := []string{o.Name, "cp", "--resume"}
	command.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == "resume" || f.Name == "token" {
			return
		}
		values := []string{f.Value.String()}
		if several, ok := f.Value.(pflag.SliceValue); ok {
			values = several.GetSlice()
		}
		for _, value := range values {
			words = append(words, display.Word("--"+f.Name+"="+value))
		}
	})
	for _, arg := range args {
		words = append(words, display.Word(arg))
	}
	return strings.Join(words, " ")
}

// withNextStep adds how to go on, if there is a part to go on with.
func (o *options) withNextStep(err error) error {
	if err == nil || !o.kept.Load() || o.again == "" {
		return err
	}
	return exit.Hint(err, "What has arrived is kept. To go on from there:\n\n  %s", o.again)
}
