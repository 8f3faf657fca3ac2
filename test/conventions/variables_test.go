package conventions

import (
	"go/ast"
	"go/token"
)

func variableRules() []rule {
	return []rule{{
		name: "no package variable changes after its declaration",
		why:  "the whole process shares it, tests included: what changes belongs into a value that its owner passes on",
		check: func(repository tree) []string {
			declared := packageVariables(repository)
			var found []string
			for _, s := range repository.sources {
				for _, name := range assigned(s.file) {
					if declared[s.dir()+"."+name.Name] && !isLocal(s.file, name) {
						found = append(found, s.at(name.Pos(), name.Name+" changes"))
					}
				}
			}
			return found
		},
		bad: map[string]string{
			"a/one.go": "package a\n\nvar state, count = map[int]int{}, 0\n\nvar version = \"dev\"\n",
			"a/two.go": "package a\n\nfunc f() {\n\tstate[1] = 2\n\tcount++\n\tversion := 3\n\tversion = 4\n}\n\n" +
				"func g(state []int) { state[0] = 1 }\n",
		},
		want: []string{"a/two.go:4: state changes", "a/two.go:5: count changes"},
	}}
}

// packageVariables returns what production code declares with var at package
// level, as "folder.name".
func packageVariables(repository tree) map[string]bool {
	variables := map[string]bool{}
	for _, s := range repository.sources {
		if s.isTest() || s.isGenerated() {
			continue
		}
		for _, spec := range variableSpecs(s.file) {
			for _, name := range spec.Names {
				if name.Name == "_" {
					continue
				}
				variables[s.dir()+"."+name.Name] = true
			}
		}
	}
	return variables
}

func variableSpecs(file *ast.File) []*ast.ValueSpec {
	var specs []*ast.ValueSpec
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			specs = append(specs, spec.(*ast.ValueSpec))
		}
	}
	return specs
}

// assigned returns the variables that a file's statements change, in whole or
// in part.
func assigned(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	change := func(targets ...ast.Expr) {
		for _, target := range targets {
			if name := base(target); name != nil {
				names = append(names, name)
			}
		}
	}
	for node := range ast.Preorder(file) {
		switch statement := node.(type) {
		case *ast.AssignStmt:
			if statement.Tok != token.DEFINE {
				change(statement.Lhs...)
			}
		case *ast.IncDecStmt:
			change(statement.X)
		}
	}
	return names
}

// base is the variable of which an expression is a part.
func base(expression ast.Expr) *ast.Ident {
	for {
		switch e := expression.(type) {
		case *ast.Ident:
			return e
		case *ast.IndexExpr:
			expression = e.X
		case *ast.SelectorExpr:
			expression = e.X
		case *ast.StarExpr:
			expression = e.X
		case *ast.ParenExpr:
			expression = e.X
		default:
			return nil
		}
	}
}

// isLocal reports whether the parser has found the name's declaration inside a
// function. A package variable is found at the file's level or, when another
// file declares it, not at all.
func isLocal(file *ast.File, name *ast.Ident) bool {
	return name.Obj != nil && file.Scope.Lookup(name.Name) != name.Obj
}
