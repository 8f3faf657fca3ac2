// Command chart-values reads the values.yaml of the chart and writes its schema, with
// which Helm refuses misspelled values, and its reference page:
//
//	go run ./hack/chart-values charts/connpool/values.yaml values.schema.json chart-values.md
//
// A value has the type of its default. A map with defaults takes no other keys, and an empty
// one takes any. A comment "# schema: {...}" behind a value adds to its schema. A comment
// above a value that begins with "--" is its description.
//
// Trade-off: two well-known programs do the same, one for each file, each with a dialect of
// comments of its own. One dialect and a page of code serve both.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const page = `# The chart's values

What ` + "`--set`" + ` and ` + "`--values`" + ` of Helm may set for ` + "`charts/connpool`" + `. A name that is not here is refused.

| value | default | meaning |
|---|---|---|
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart-values:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) != 3 {
		return errors.New("want the names of three files: values.yaml, the schema, the page")
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	rows := bytes.NewBufferString(page)
	root, err := describe("", document.Content[0], rows)
	if err != nil {
		return err
	}
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(files[1], append(schema, '\n'), 0o600),
		os.WriteFile(files[2], rows.Bytes(), 0o600))
}

// describe returns the schema of a map, and writes the rows of its values.
func describe(path string, node *yaml.Node, rows *bytes.Buffer) (map[string]any, error) {
	properties := map[string]any{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		if about, ok := description(key); ok {
			if err := writeRow(rows, name, value, about); err != nil {
				return nil, err
			}
		}
		property, err := property(name, key, value, rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		properties[key.Value] = property
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}, nil
}

// types of values in JSON, by their tags in YAML.
var types = map[string]string{"!!str": "string", "!!int": "integer", "!!bool": "boolean", "!!seq": "array", "!!map": "object"}

func property(name string, key, value *yaml.Node, rows *bytes.Buffer) (map[string]any, error) {
	property := map[string]any{"type": types[value.Tag]}
	more, annotated := strings.CutPrefix(key.LineComment+value.LineComment, "# schema: ")
	if annotated {
		return property, json.Unmarshal([]byte(more), &property)
	}
	if value.Tag == "!!map" && len(value.Content) > 0 {
		return describe(name, value, rows)
	}
	return property, nil
}

// description is the comment above a value, from its "--" on.
func description(key *yaml.Node) (string, bool) {
	_, about, ok := strings.Cut(key.HeadComment, "# -- ")
	return strings.ReplaceAll(about, "\n# ", " "), ok
}

func writeRow(rows *bytes.Buffer, name string, value *yaml.Node, about string) error {
	var plain any
	if err := value.Decode(&plain); err != nil {
		return err
	}
	standard, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	shown := ""
	if text := string(standard); text != `""` && text != "{}" && text != "[]" {
		shown = "`" + text + "`"
	}
	fmt.Fprintf(rows, "| `%s` | %s | %s |\n", name, shown, about)
	return nil
}
