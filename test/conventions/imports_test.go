package conventions

import (
	"path"
	"slices"
	"strings"
)

// boundary is a rule about what some packages may not import, whatever their rows
// in the layout say. Patterns are import paths; "./" stands for this module and a
// trailing "/..." for a package and all below it.
type boundary struct {
	name, why string
	from      []string
	except    []string
	// only, when set, is all that may be imported besides the standard library.
	only []string
	// standard allows the standard library and nothing else.
	standard bool
	forbid   []string
	// bad is a package in from and an import that it may not have.
	bad [2]string
}

var boundaries = []boundary{
	{
		name: "the engine imports the standard library and lists only",
		why:  "it must not know what it pools: every kind of connection would depend on what it imports",
		from: []string{"./internal/connpool"},
		only: []string{"./internal/list"},
		bad:  [2]string{"./internal/connpool", "./internal/driver"},
	},
	{
		name:     "the driver seam imports the standard library only",
		why:      "the code that uses a connection must not depend on how the connection is made",
		from:     []string{"./internal/driver"},
		standard: true,
		bad:      [2]string{"./internal/driver", "golang.org/x/crypto/ssh"},
	},
	{
		name: "the API imports apimachinery only",
		why:  "other programs import these types, and our dependencies would become theirs",
		from: []string{"./api/v1alpha1", "./api/live/v1alpha1"},
		only: []string{"k8s.io/apimachinery/..."},
		bad:  [2]string{"./api/v1alpha1", "sigs.k8s.io/controller-runtime/pkg/scheme"},
	},
	{
		name:   "drivers import neither the API nor poolset",
		why:    "a driver speaks one protocol and gets all it needs from its caller; otherwise its tests would need the whole operator",
		from:   []string{"./internal/driver/..."},
		forbid: []string{"./api/...", "./internal/poolset/...", "sigs.k8s.io/controller-runtime/..."},
		bad:    [2]string{"./internal/driver/ssh", "./api/v1alpha1"},
	},
	{
		name:   "poolset and reach import neither the API nor controller-runtime",
		why:    "the controllers and the live API meet there, and it must depend on neither",
		from:   []string{"./internal/poolset/...", "./internal/reach/..."},
		forbid: []string{"./api/...", "sigs.k8s.io/controller-runtime/..."},
		bad:    [2]string{"./internal/poolset", "sigs.k8s.io/controller-runtime"},
	},
	{
		name:   "controllers do not import the API server",
		why:    "desired state and requests meet in poolset only; neither side knows the other",
		from:   []string{"./internal/controller/..."},
		forbid: []string{"./internal/apiserver/...", "./internal/registry/...", "./internal/stream/..."},
		bad:    [2]string{"./internal/controller/connectionpool", "./internal/registry/exec"},
	},
	{
		name:   "the API server does not import controllers",
		why:    "desired state and requests meet in poolset only; neither side knows the other",
		from:   []string{"./internal/apiserver/...", "./internal/registry/...", "./internal/stream/..."},
		forbid: []string{"./internal/controller/..."},
		bad:    [2]string{"./internal/apiserver", "./internal/controller/connectiontarget"},
	},
	{
		name:   "serving and leader import nothing else of ours",
		why:    "certificates, endpoints and the Lease are the same whatever is served; the operator puts them together",
		from:   []string{"./internal/serving/...", "./internal/leader/..."},
		forbid: []string{"./api/...", "./internal/..."},
		bad:    [2]string{"./internal/serving", "./internal/apiserver"},
	},
	{
		name:   "no package imports cmd",
		why:    "a main package is flags and the choice of drivers, and the end of the import graph",
		from:   []string{"./..."},
		forbid: []string{"./cmd/..."},
		bad:    [2]string{"./internal/cli", "./cmd/manager"},
	},
	{
		name:   "only cmd imports the operator",
		why:    "it puts all other packages together, and a package that needs it would need all of them",
		from:   []string{"./api/...", "./client/...", "./internal/..."},
		except: []string{"./internal/operator/..."},
		forbid: []string{"./internal/operator/..."},
		bad:    [2]string{"./internal/poolset", "./internal/operator"},
	},
	{
		name:   "only cmd imports concrete drivers",
		why:    "everything above the seam must work with any protocol; main passes the drivers to the operator",
		from:   []string{"./api/...", "./internal/..."},
		except: []string{"./internal/driver/..."},
		// How keys and known_hosts are read is no driver, and the plugin reads them as the operator does.
		forbid: []string{"./internal/driver/ssh", "./internal/driver/ssh/flood", "./internal/driver/docker/...", "./internal/driver/kube/..."},
		bad:    [2]string{"./internal/poolset", "./internal/driver/ssh"},
	},
	{
		name:   "production code imports no test support",
		why:    "the programs would contain fakes and fixtures",
		from:   []string{"./api/...", "./cmd/...", "./internal/..."},
		except: testSupport,
		forbid: append([]string{"./test/...", "./hack/...", "testing/..."}, testSupport...),
		bad:    [2]string{"./cmd/manager", "./test/lab"},
	},
}

// testSupport are the packages below internal that only tests import.
var testSupport = []string{
	"./internal/driver/drivertest", "./internal/session/sessiontest", "./internal/registry/registrytest", "./internal/cli/clitest",
}

func importRules() []rule {
	rules := []rule{siblingDrivers()}
	for _, b := range boundaries {
		rules = append(rules, b.rule())
	}
	return rules
}

func (b boundary) rule() rule {
	bad := strings.TrimPrefix(b.bad[0], "./") + "/bad.go"
	return rule{
		name:  b.name,
		why:   b.why,
		check: b.check,
		bad:   map[string]string{bad: "package bad\n\nimport _ \"" + expand(b.bad[1]) + "\"\n"},
		want:  []string{bad + ": imports " + expand(b.bad[1])},
	}
}

func (b boundary) check(repository tree) []string {
	var found []string
	for _, s := range repository.sources {
		if s.isTest() || !matches(b.from, s.importPath()) || matches(b.except, s.importPath()) {
			continue
		}
		for _, imported := range s.imports() {
			if !b.allows(imported) {
				found = append(found, s.path+": imports "+imported)
			}
		}
	}
	return found
}

func (b boundary) allows(imported string) bool {
	if matches(b.forbid, imported) {
		return false
	}
	if b.standard || b.only != nil {
		return isStandard(imported) || matches(b.only, imported)
	}
	return true
}

// protocols are the drivers. What else is below internal/driver are the mechanisms
// that they share.
var protocols = []string{"ssh", "docker", "kube"}

func siblingDrivers() rule {
	const root = module + "/internal/driver/"
	return rule{
		name: "drivers do not import each other",
		why:  "a protocol that needs another one gets it as a DialFunc, so each can be understood and replaced alone",
		check: func(repository tree) []string {
			var found []string
			for _, s := range repository.sources {
				own, inside := strings.CutPrefix(s.importPath(), root)
				if !inside || s.isTest() {
					continue
				}
				for _, imported := range s.imports() {
					other, below := strings.CutPrefix(imported, root)
					if below && slices.Contains(protocols, first(other)) && first(own) != first(other) {
						found = append(found, s.path+": imports "+imported)
					}
				}
			}
			return found
		},
		bad: map[string]string{
			"internal/driver/docker/bad.go": "package docker\n\nimport _ \"" + root + "ssh\"\n",
			"internal/driver/stdio/bad.go":  "package stdio\n\nimport _ \"" + root + "kube\"\n",
			"internal/driver/ssh/good.go": "package ssh\n\nimport (\n\t_ \"" + root + "ssh/wire\"\n\t_ \"" + root +
				"stdio\"\n)\n",
		},
		want: []string{
			"internal/driver/docker/bad.go: imports " + root + "ssh",
			"internal/driver/stdio/bad.go: imports " + root + "kube",
		},
	}
}

func (s source) importPath() string { return path.Join(module, s.dir()) }

// expand turns "./" into this module.
func expand(pattern string) string {
	if rest, local := strings.CutPrefix(pattern, "./"); local {
		return module + "/" + rest
	}
	return pattern
}

func matches(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		root, subtree := strings.CutSuffix(expand(pattern), "/...")
		return importPath == root || subtree && strings.HasPrefix(importPath, root+"/")
	})
}

// isStandard reports whether a package is of the standard library: its first element has no dot.
func isStandard(importPath string) bool { return !strings.Contains(first(importPath), ".") }

func first(importPath string) string {
	element, _, _ := strings.Cut(importPath, "/")
	return element
}
