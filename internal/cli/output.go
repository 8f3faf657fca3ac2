package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Forms of output besides the one for people, which is "".
const (
	outputJSON = "json"
	outputYAML = "yaml"
	outputName = "name"
	outputWide = "wide"
)

// output is the -o flag.
type output struct {
	form    string
	allowed []string
}

// register adds -o with the forms that a command knows.
func (o *output) register(command *cobra.Command, allowed ...string) {
	o.allowed = allowed
	command.Flags().StringVarP(&o.form, "output", "o", "", "Output format: "+strings.Join(allowed, ", "))
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) validate() error {
	if o.form == "" || slices.Contains(o.allowed, o.form) {
		return nil
	}
	return fmt.Errorf("--output %q is unknown: use one of %s", o.form, strings.Join(o.allowed, ", "))
}

// machine reports that the output is for programs.
func (o *output) machine() bool { return o.form == outputJSON || o.form == outputYAML }

// encode writes an object for programs.
func (o *output) encode(out io.Writer, object any) error {
	if o.form == outputYAML {
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

// table aligns columns as kubectl does.
type table struct {
	columns []string
	rows    [][]string
}

// add appends a row. Its cells lose what could steer a terminal.
func (t *table) add(cells ...string) {
	for i, cell := range cells {
		cells[i] = orNone(cell)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(out io.Writer) {
	for _, line := range t.lines() {
		fmt.Fprintln(out, line)
	}
}

// lines are the header and the rows.
func (t *table) lines() []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(t.columns, "\t"))
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a builder never fails
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
