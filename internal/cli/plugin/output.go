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

// Forms of output that have a template behind an equals sign.
const (
	JSONPath      = "jsonpath"
	CustomColumns = "custom-columns"
)

// templates are what stands behind the forms that have a template, as an example.
var templates = map[string]string{
	JSONPath: "jsonpath='{.items[*].metadata.name}'", CustomColumns: "custom-columns=NAME:.metadata.name",
}

// Output is the -o flag.
type Output struct{ Form string }

// formsOfOutput is the annotation of a -o flag that holds what its command knows.
const formsOfOutput = "connpool.dev/forms"

// Register adds -o with the forms that a command knows.
func (o *Output) Register(command *cobra.Command, allowed ...string) {
	command.Flags().StringVarP(&o.Form, "output", "o", "", "Output format: "+listOf(allowed))
	// It fails only for a flag that does not exist.
	_ = command.Flags().SetAnnotation("output", formsOfOutput, allowed)
	CompleteFlag(command, "output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

// listOf names forms, as they are typed.
func listOf(forms []string) string {
	words := make([]string, 0, len(forms))
	for _, form := range forms {
		if templates[form] != "" {
			form += "=..."
		}
		words = append(words, form)
	}
	return strings.Join(words, ", ")
}

// Template returns the form without what is behind the equals sign, and that.
func (o *Output) Template() (form, template string) {
	form, template, _ = strings.Cut(o.Form, "=")
	return form, template
}

func (o *Output) validate(command *cobra.Command) error {
	if o.Form == "" {
		return nil
	}
	allowed := command.Flags().Lookup("output").Annotations[formsOfOutput]
	form, template := o.Template()
	switch {
	case !slices.Contains(allowed, form), templates[form] == "" && form != o.Form:
		return fmt.Errorf("--output %q is not a valid format: use one of %s", o.Form, listOf(allowed))
	case templates[form] != "" && template == "":
		return fmt.Errorf("--output %s needs a template, such as -o %s", form, templates[form])
	}
	return nil
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
