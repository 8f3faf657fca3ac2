// Command conditions prints the reference of condition types and reasons, from
// the comments beside their constants:
//
//	go run ./hack/conditions api/v1alpha1/conditions.go
//
// The comments are the only place where they are described, so that whoever adds
// a reason documents it where it is defined, and who meets it in a status finds
// the same words.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
)

const head = `# Conditions and their reasons

Generated from the comments in ` + "`api/v1alpha1/conditions.go`" + `.
`

func main() {
	log.SetFlags(0)
	file, err := parser.ParseFile(token.NewFileSet(), os.Args[1], nil, parser.ParseComments)
	if err != nil {
		log.Fatal(err)
	}
	render(os.Stdout, file)
}

// render prints a section for each group of constants.
func render(out io.Writer, file *ast.File) {
	fmt.Fprint(out, head)
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		title, text, _ := strings.Cut(group.Doc.Text(), ".")
		fmt.Fprintf(out, "\n## %s\n\n", title)
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(out, "%s\n\n", text)
		}
		fmt.Fprint(out, "| Name | Meaning |\n| --- | --- |\n")
		for _, spec := range group.Specs {
			row(out, spec.(*ast.ValueSpec))
		}
	}
}

// row prints a constant: its value, and its comment without the Go name.
func row(out io.Writer, constant *ast.ValueSpec) {
	literal, ok := constant.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		log.Fatal(err)
	}
	words := strings.Join(strings.Fields(constant.Doc.Text()), " ")
	words = strings.TrimPrefix(words, constant.Names[0].Name+" ")
	fmt.Fprintf(out, "| `%s` | %s |\n", value, strings.ToUpper(words[:1])+words[1:])
}
