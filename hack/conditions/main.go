// Command conditions prints the reference of condition types and reasons, from
// the comments beside their constants, and the table of places where people see them,
// which a test has computed with the operator's own code:
//
//	go run ./hack/conditions api/v1alpha1/conditions.go internal/controller/connectiontarget/testdata/places.md
//
// The comments are the only place where reasons are described. A developer who adds
// a reason documents it where it is defined, and a user who sees it in a status finds
// the same words in the reference.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"strings"
)

const head = `# Conditions and their reasons

Generated from the comments in ` + "`api/v1alpha1/conditions.go`" + `, and at the end
[where each reason is shown](#where-each-reason-is-shown).
`

const placesHead = `
## Where each reason is shown

What the operator makes of each reason, in a pool of one target that was warm before or is new. STATUS is the column of
` + "`kubectl get`" + `, which is ` + "`status.summary`" + `. *In the message* means that another reason stands in the condition, and
its message names the target with this one; an event such as *Warning TargetsFailing* does the same. The metrics are those
whose label ` + "`reason`" + ` has the reason. *Health* is what Flux computes from the conditions, by kstatus, and what
Argo CD does by the scripts in ` + "`config/argocd`" + `; see [GitOps](../how-to/gitops.md#health).

If only some targets of a pool fail, it says ` + "`Degraded`" + ` instead of ` + "`TargetsFailing`" + `.

`

func main() {
	log.SetFlags(0)
	file, err := parser.ParseFile(token.NewFileSet(), os.Args[1], nil, parser.ParseComments)
	if err != nil {
		log.Fatal(err)
	}
	var sections []string
	for _, declaration := range file.Decls {
		if group, ok := declaration.(*ast.GenDecl); ok && group.Tok == token.CONST {
			sections = append(sections, section(group))
		}
	}
	places, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(head + strings.Join(sections, "") + placesHead + string(places))
}

// section renders a group of constants: its comment and a table.
func section(group *ast.GenDecl) string {
	title, text, _ := strings.Cut(group.Doc.Text(), ".")
	parts := []string{"\n## " + title + "\n\n"}
	if text = strings.TrimSpace(text); text != "" {
		parts = append(parts, text+"\n\n")
	}
	parts = append(parts, "| Name | Meaning |\n| --- | --- |\n")
	for _, spec := range group.Specs {
		if constant, ok := spec.(*ast.ValueSpec); ok {
			parts = append(parts, row(constant))
		}
	}
	return strings.Join(parts, "")
}

// row renders a constant: its value, and its comment without the Go name.
func row(constant *ast.ValueSpec) string {
	literal, ok := constant.Values[0].(*ast.BasicLit)
	if !ok {
		return ""
	}
	words := strings.Join(strings.Fields(constant.Doc.Text()), " ")
	words = strings.TrimPrefix(words, constant.Names[0].Name+" ")
	return "| `" + strings.Trim(literal.Value, `"`) + "` | " + strings.ToUpper(words[:1]) + words[1:] + " |\n"
}
