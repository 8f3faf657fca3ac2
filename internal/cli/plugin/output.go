package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Forms of output besides the one for people, which is "".
const (
	JSON = "json"
	YAML = "yaml"
	Name = "name"
	Wide = "wide"
)

// Output is the -o flag.
type Output struct {
	Form string

	allowed []string
}

// Register adds -o with the forms that a command knows.
func (o *Output) Register(command *cobra.Command, allowed ...string) {
	o.allowed = allowed
	command.Flags().StringVarP(&o.Form, "output", "o", "", "Output format: "+strings.Join(allowed, ", "))
	CompleteFlag(command, "output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

// Validate refuses a form that the command does not know.
func (o *Output) Validate() error {
	if o.Form == "" || slices.Contains(o.allowed, o.Form) {
		return nil
	}
	return fmt.Errorf("--output %q is unknown: use one of %s", o.Form, strings.Join(o.allowed, ", "))
}

// IsMachine reports whether the output is for programs.
func (o *Output) IsMachine() bool { return o.Form == JSON || o.Form == YAML }

// Encode writes an object for programs.
func (o *Output) Encode(out io.Writer, object any) error {
	if o.Form == YAML {
		text, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "    ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(object)
}
