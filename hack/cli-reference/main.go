// Command cli-reference prints the reference of the kubectl plugin, from the help
// of its commands:
//
//	go run ./hack/cli-reference >docs/reference/kubectl-connpool.md
//
// It prints the text of --help unchanged, so that there is one text to maintain,
// in the order of the list of commands.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"regexp"
	"slices"
	"strings"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli"
)

const head = `# kubectl connpool

Generated from the help of each command. How to install it, and how names are completed:
[Run commands](../how-to/run-commands.md#install-the-plugin). What the exit codes mean to a script:
[Retry safely](../how-to/retry-safely.md#exit-codes-of-the-plugin). Under the name ` + "`connpool`" + ` the same binary
works without kubectl.
`

// entry matches a command in a list of commands.
var entry = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +[A-Z]`)

func main() {
	log.SetFlags(0)
	page, err := reference()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(page)
}

// reference returns the whole page.
func reference() (string, error) {
	all, err := help()
	if err != nil {
		return "", err
	}
	below, err := sections(all)
	return head + "\n" + indented(all) + below, err
}

// sections returns the sections of the commands that the help of the command above
// them lists.
func sections(text string, above ...string) (string, error) {
	list, _, _ := strings.Cut(text, "\nFlags:\n")
	if !strings.Contains(list, " COMMAND\n") {
		return "", nil
	}
	var page strings.Builder
	for _, match := range entry.FindAllStringSubmatch(list, -1) {
		command := append(slices.Clone(above), match[1])
		text, err := help(command...)
		if err != nil {
			return "", err
		}
		below, err := sections(text, command...)
		if err != nil {
			return "", err
		}
		page.WriteString("\n## " + strings.Join(command, " ") + "\n\n" + indented(text) + below)
	}
	return page.String(), nil
}

// help returns the help of a command, or of the program.
func help(command ...string) (string, error) {
	var out bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: io.Discard}
	arguments := append(append([]string{"kubectl-connpool"}, command...), "--help")
	if code := cli.Main(arguments, "", streams); code != 0 {
		return "", fmt.Errorf("%s: exit code %d", strings.Join(arguments, " "), code)
	}
	return out.String(), nil
}

// indented turns a text into a block of code.
func indented(text string) string {
	var block strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		if line != "\n" {
			line = "    " + line
		}
		block.WriteString(line)
	}
	return block.String()
}
