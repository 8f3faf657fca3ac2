package conventions

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// surfaces finds "surfaces when ...", with words between them.
var surfaces = regexp.MustCompile(`(?s)\bsurfaces\b.*\b(when|while)\b`)

func reasonRules() []rule {
	return []rule{
		{
			name:  "every reason of a driver is a condition reason of the API",
			why:   "errors are classified once, and users look the reason up in the API's documentation",
			check: reasonsAgree,
			bad: map[string]string{
				"internal/driver/errors.go": "package driver\n\ntype Reason string\n\nconst (\n" +
					"\tTimeout Reason = \"Timeout\"\n\tLost Reason = \"Lost\"\n)\n",
				"api/v1alpha1/conditions.go": "package v1alpha1\n\nconst ReasonTimeout = \"Timeout\"\n",
			},
			want: []string{`internal/driver/errors.go: reason "Lost" has no constant in api/v1alpha1`},
		},
		{
			name:  "every reason has its class beside its constant",
			why:   "a reason without a class counts as neither permanent nor transient nor expected, and no compiler tells",
			check: reasonsClassed,
			bad: map[string]string{
				"internal/driver/errors.go": "package driver\n\ntype Reason string\n\nconst (\n" +
					"\tTimeout Reason = \"Timeout\"\n\tLost Reason = \"Lost\"\n)\n\n" +
					"var classes = map[Reason]class{Timeout: {transient: true}}\n",
				"api/v1alpha1/conditions.go": "package v1alpha1\n\nconst (\n" +
					"\tReasonTimeout = \"Timeout\"\n\tReasonWarm = \"Warm\"\n\tReasonCold = \"Cold\"\n)\n\n" +
					"var expectedReasons = map[string]bool{ReasonWarm: true}\n",
			},
			want: []string{
				"api/v1alpha1/conditions.go: ReasonCold is not in the table expectedReasons",
				"internal/driver/errors.go: Lost is not in the table classes",
			},
		},
		{
			name:  "every condition reason says when it surfaces",
			why:   "the engineer on call who reads a reason did not write it",
			check: reasonsDocumented,
			bad: map[string]string{
				"api/v1alpha1/conditions.go": "package v1alpha1\n\nconst (\n" +
					"\t// ReasonGood surfaces when all is well.\n\tReasonGood = \"Good\"\n" +
					"\t// ReasonBad is bad.\n\tReasonBad = \"Bad\"\n)\n",
			},
			want: []string{`api/v1alpha1/conditions.go: ReasonBad: the comment lacks "surfaces when"`},
		},
	}
}

func reasonsAgree(repository tree) []string {
	promised := map[string]bool{}
	for _, c := range constants(repository, "api/v1alpha1") {
		promised[c.value] = true
	}
	var found []string
	for _, c := range constants(repository, "internal/driver") {
		if c.kind == "Reason" && !promised[c.value] {
			found = append(found, fmt.Sprintf("%s: reason %q has no constant in api/v1alpha1", c.path, c.value))
		}
	}
	return found
}

// reasonsClassed checks that each reason of a driver stands in the driver's table
// and each other reason of the API in the API's.
func reasonsClassed(repository tree) []string {
	var found []string
	ofDrivers := map[string]bool{}
	classes := tableKeys(repository, "internal/driver", "classes")
	for _, c := range constants(repository, "internal/driver") {
		if c.kind != "Reason" {
			continue
		}
		ofDrivers[c.value] = true
		if !classes[c.name] {
			found = append(found, fmt.Sprintf("%s: %s is not in the table classes", c.path, c.name))
		}
	}
	expected := tableKeys(repository, "api/v1alpha1", "expectedReasons")
	for _, c := range constants(repository, "api/v1alpha1") {
		if strings.HasPrefix(c.name, "Reason") && !ofDrivers[c.value] && !expected[c.name] {
			found = append(found, fmt.Sprintf("%s: %s is not in the table expectedReasons", c.path, c.name))
		}
	}
	return found
}

// tableKeys returns the identifiers that are keys of a map variable in a folder's
// production code.
func tableKeys(repository tree, dir, name string) map[string]bool {
	keys := map[string]bool{}
	addKey := func(node ast.Node) bool {
		pair, isPair := node.(*ast.KeyValueExpr)
		if isPair {
			if key, ok := pair.Key.(*ast.Ident); ok {
				keys[key.Name] = true
			}
		}
		return !isPair
	}
	for _, s := range repository.sources {
		if s.dir() != dir || s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
				ast.Inspect(spec, addKey)
			}
			return true
		})
	}
	return keys
}

func reasonsDocumented(repository tree) []string {
	var found []string
	reasons := slices.Concat(constants(repository, "api/v1alpha1"), constants(repository, "internal/driver"))
	for _, c := range reasons {
		if (c.kind == "Reason" || strings.HasPrefix(c.name, "Reason")) && !surfaces.MatchString(c.comment) {
			found = append(found, fmt.Sprintf("%s: %s: the comment lacks %q", c.path, c.name, "surfaces when"))
		}
	}
	return found
}

// constant is a string constant as it stands in the source.
type constant struct{ path, name, kind, value, comment string }

// constants returns the string constants that a folder's production code
// declares at package level.
func constants(repository tree, dir string) []constant {
	var all []constant
	for _, s := range repository.sources {
		if s.dir() != dir || s.isTest() {
			continue
		}
		for _, declaration := range s.file.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				all = append(all, read(s, group, spec.(*ast.ValueSpec))...)
			}
		}
	}
	return all
}

func read(s source, group *ast.GenDecl, spec *ast.ValueSpec) []constant {
	comment := spec.Doc.Text()
	if !group.Lparen.IsValid() {
		comment = group.Doc.Text()
	}
	var kind string
	if named, ok := spec.Type.(*ast.Ident); ok {
		kind = named.Name
	}
	var all []constant
	for i, value := range spec.Values {
		literal, ok := value.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			continue
		}
		// The parser has accepted the literal.
		text, _ := strconv.Unquote(literal.Value)
		all = append(all, constant{s.path, spec.Names[i].Name, kind, text, comment})
	}
	return all
}
