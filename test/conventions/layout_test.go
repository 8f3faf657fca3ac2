package conventions

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is one package of the repository, or all below a folder.
type row struct {
	// folder is the package's path; a trailing "/..." means all packages below it.
	folder string
	// is ends the sentence "It is ...".
	is string
	// imports are the packages of this module that it may import, and modules
	// those of others, as patterns. The standard library is always allowed.
	imports, modules []string
	// lines is how many lines of production code it may have, and because ends the
	// sentence "It is that long because ...". Without them it is defaultLines.
	lines   int
	because string
	// coming is set while another branch makes the package, which may therefore be missing.
	coming bool
}

// defaultLines bounds a package that gives no reason to be longer.
const defaultLines = 1000

const aDriver = "one protocol is one package, with its commands, streams, identity checks and error classes"

// Ceilings that hold until the packages below them have moved out.
const (
	poolsetLines  = 2500 // 1,700 with internal/reach
	sshLines      = 2750 // 2,500 with internal/driver/stdio and the others
	kubeLines     = 3000 // 2,500 with internal/kubestream
	registryLines = 4950 // 1,000 with internal/registry/use and the others
	cliLines      = 7900 // 1,000 with a package for each command
)

var kubernetes = []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/go-logr/logr"}

// layout is every package: what it is, what it may import, how long it may get.
// docs/explanation/architecture.md shows it, and make update-conventions writes it there.
var layout = []row{
	{
		folder: "api/v1alpha1", is: "the custom resources: what a user may declare, and the status that the operator writes",
		modules: []string{"k8s.io/apimachinery/..."},
		lines:   1400, because: "three quarters of it are the text of `kubectl explain`",
	},
	{
		folder: "api/live/v1alpha1", is: "the types of the live API: connections, sessions, commands, the options of streams",
		modules: []string{"k8s.io/apimachinery/..."},
	},
	{
		folder: "client", is: "the Go client of the live API: commands and streams with their outcomes",
		imports: []string{"./api/live/v1alpha1", "./internal/halfclose", "./internal/kubestream"},
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/streaming/...", "k8s.io/utils/...",
			"github.com/gorilla/websocket", "github.com/moby/spdystream/...",
		},
		lines: 2500, because: "it speaks exec, port-forward, sessions and the proxy, each in a form that keeps the outcome",
	},
	{
		folder: "client/applyconfiguration/...", is: "server-side apply for the custom resources; generated",
		imports: []string{"./api/v1alpha1", "./client/applyconfiguration/..."},
		modules: []string{"k8s.io/apimachinery/...", "k8s.io/client-go/...", "sigs.k8s.io/structured-merge-diff/..."},
	},
	{
		folder: "cmd/manager", is: "the operator's flags, and the choice of its drivers",
		imports: []string{"./api/...", "./internal/..."},
		modules: kubernetes,
	},
	{
		folder: "cmd/kubectl-connpool", is: "the main function of the kubectl plugin",
		imports: []string{"./internal/cli/..."},
		modules: []string{"k8s.io/cli-runtime/...", "k8s.io/client-go/..."},
	},
	{
		folder: "internal/connpool", is: "the engine: a bounded set of warm connections of any type",
		lines: 2200, because: "everything that shares its one lock is in it",
	},
	{
		folder: "internal/driver", is: "what a protocol has to offer, and the classes of its failures",
		lines: 500, because: "every driver and every caller depends on it, so it holds contracts and next to no code",
	},
	{
		folder: "internal/driver/keepalive", is: "when a connection that does not answer is dead; shared by the drivers",
		imports: []string{"./internal/driver"}, coming: true,
	},
	{
		folder: "internal/driver/stdio", is: "the input and output of a command; shared by the drivers", coming: true,
	},
	{
		folder: "internal/driver/running", is: "the commands that run on a connection, to end them with it; shared by the drivers", coming: true,
	},
	{
		folder: "internal/driver/dialerr", is: "why a TCP connection failed, as a classified error; shared by the drivers",
		imports: []string{"./internal/driver"}, coming: true,
	},
	{
		folder: "internal/driver/standby", is: "sockets that are dialed ahead and watched until they are needed; shared by the drivers", coming: true,
	},
	{
		folder: "internal/driver/ssh", is: "the SSH driver",
		imports: sharedByDrivers, modules: []string{"golang.org/x/crypto/ssh/...", "golang.org/x/sys/unix"},
		lines: sshLines, because: aDriver,
	},
	{
		folder: "internal/driver/docker", is: "the Docker driver",
		imports: sharedByDrivers,
		modules: []string{"github.com/docker/docker/...", "github.com/containerd/errdefs"},
		lines:   2500, because: aDriver,
	},
	{
		folder: "internal/driver/kube", is: "the Kubernetes driver",
		imports: append(slices.Clone(sharedByDrivers), "./internal/kubestream"),
		modules: []string{"k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/streaming/...", "github.com/gorilla/websocket"},
		lines:   kubeLines, because: aDriver,
	},
	{
		folder: "internal/driver/drivertest", is: "the conformance suite that every driver passes, and a fake driver",
		imports: []string{"./internal/driver"}, modules: []string{"github.com/google/go-cmp/..."},
	},
	{
		folder: "internal/kubestream", is: "the client side of Kubernetes' exec and port-forward protocols, and the heartbeat of both sides",
		modules: []string{"k8s.io/apimachinery/...", "k8s.io/streaming/...", "github.com/gorilla/websocket"},
		coming:  true,
	},
	{
		folder: "internal/egress", is: "TCP connections to addresses that the policy allows",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/reach", is: "how a target is reached: access versions, jump hosts, and which dials are refused for now",
		imports: []string{"./internal/connpool", "./internal/driver"},
		lines:   1200, because: "jump hosts are pools of their own, and all that decides about a dial is in one place",
		coming: true,
	},
	{
		folder: "internal/poolset", is: "all live pools of the process, by the UIDs of target and pool",
		imports: []string{"./internal/connpool", "./internal/driver", "./internal/reach"},
		lines:   poolsetLines, because: "desired state and requests meet in it, so the rules of both are there",
	},
	{
		folder: "internal/warming", is: "how many warm connections a schedule wants at a time: pure functions",
		imports: []string{"./api/v1alpha1"}, modules: []string{"github.com/robfig/cron/v3"},
	},
	{
		folder: "internal/controller/connectiontarget", is: "the controller that passes a target to the pool set and writes the target's status",
		imports: []string{
			"./api/v1alpha1", "./client/applyconfiguration/...", "./internal/connpool", "./internal/controller/status",
			"./internal/driver", "./internal/poolset", "./internal/reach", "./internal/warming",
		},
		modules: kubernetes,
		lines:   1600, because: "a target's facts come from five kinds of objects, and each has its checks and its conditions",
	},
	{
		folder: "internal/controller/connectionpool", is: "the controller that adds the targets' statuses up into the pool's",
		imports: []string{"./api/v1alpha1", "./client/applyconfiguration/...", "./internal/controller/status", "./internal/driver", "./internal/warming"},
		modules: kubernetes,
	},
	{
		folder: "internal/controller/status", is: "when a status is worth a write, and how it is written",
		imports: []string{"./api/v1alpha1", "./internal/driver"},
		modules: append(slices.Clone(kubernetes), "golang.org/x/time/rate"),
	},
	{
		folder: "internal/session", is: "a shell that stays, on any connection that runs commands",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/session/sessiontest", is: "a shell for tests of sessions",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/halfclose", is: "the end of one direction of an upgraded connection, across proxies that would end both",
	},
	{
		folder: "internal/stream", is: "the server side of Kubernetes' exec and port-forward protocols",
		imports: []string{"./internal/driver", "./internal/kubestream"},
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/streaming/...", "github.com/gorilla/websocket", "github.com/moby/spdystream/...",
		},
		lines: 2000, because: "it serves two protocols on two transports each, with the bounds that the libraries lack",
	},
	{
		folder: "internal/registry/use", is: "what all uses share: permission, limits, lease, result, audit, and why a lease is refused",
		imports: append([]string{"./internal/connpool", "./internal/registry/naming"}, requests...), modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/refusal", is: "the HTTP status and the causes of every refused request",
		imports: apis, modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/validate", is: "the rules for fields that several requests have",
		imports: append([]string{"./internal/driver"}, apis...), modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/idempotency", is: "the results of commands, kept by request ID",
		imports: append([]string{"./internal/registry/refusal"}, apis...), coming: true,
	},
	{
		folder: "internal/registry/naming", is: "the names of live connections",
		imports: []string{"./internal/poolset"}, modules: append([]string{"github.com/google/uuid"}, kubernetes...), coming: true,
	},
	{
		folder: "internal/registry/list", is: "selectors and tables for objects that are not stored",
		imports: []string{"./internal/driver", "./internal/registry/refusal"}, modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/exec", is: "commands, as streams and as JSON, in a pool or in a session",
		imports: append([]string{"./internal/registry/idempotency"}, requests...), modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/session", is: "the session objects: who owns one, how long it lives",
		imports: append([]string{"./internal/registry/exec", "./internal/registry/list", "./internal/session"}, requests...),
		modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/proxy", is: "requests passed on to a target's HTTP API",
		imports: append([]string{"./internal/halfclose"}, requests...), modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/forward", is: "port-forwards, and their limits",
		imports: requests, modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry/registrytest", is: "the live API over fake connections, for tests of its requests",
		imports: []string{"./..."}, modules: kubernetes, coming: true,
	},
	{
		folder: "internal/registry", is: "all resources of the live API; connections, drain and check are its own",
		imports: append([]string{"./internal/connpool", "./internal/halfclose", "./internal/session", "./internal/registry/..."}, requests...),
		modules: append([]string{"github.com/google/uuid"}, kubernetes...),
		lines:   registryLines, because: "its packages have not moved yet",
	},
	{
		folder: "internal/apiserver", is: "the generic API server around the registry: who the user is, what the user may do",
		imports: []string{"./api/live/v1alpha1", "./internal/apiserver/openapi", "./internal/driver", "./internal/registry/..."},
		modules: kubernetes,
	},
	{
		folder: "internal/apiserver/openapi", is: "the OpenAPI description of the live API; generated",
		imports: []string{"./api/live/v1alpha1"}, modules: []string{"k8s.io/apimachinery/...", "k8s.io/kube-openapi/..."},
	},
	{
		folder: "internal/serving", is: "the live API's certificate, and the endpoint to which its Service leads",
		modules: kubernetes,
	},
	{
		folder: "internal/leader", is: "the lock with which one replica leads, and keeps leading while kube-apiserver is away",
		modules: kubernetes, coming: true,
	},
	{
		folder: "internal/metrics", is: "a snapshot of the pool set, read when Prometheus scrapes",
		imports: []string{"./internal/connpool", "./internal/driver", "./internal/poolset", "./internal/reach"},
		modules: []string{"github.com/prometheus/client_golang/..."},
	},
	{
		folder: "internal/operator", is: "the whole operator: controllers, live API and pool set, wired, run and drained",
		imports: []string{"./api/...", "./internal/..."}, modules: kubernetes, coming: true,
	},
	{
		folder: "internal/cli", is: "the kubectl plugin: its commands, in groups",
		imports: append([]string{"./internal/cli/...", "./internal/driver"}, commands...),
		modules: append([]string{"github.com/pkg/sftp", "golang.org/x/..."}, terminalModules...),
		lines:   cliLines, because: "its commands have not moved yet",
	},
	{
		folder: "internal/cli/plugin", is: "what commands are made with: the factory, common flags, completion",
		imports: commands, modules: terminalModules, coming: true,
	},
	{
		folder: "internal/cli/cluster", is: "the cluster that a command talks to, and what to do when it refuses",
		imports: commands, modules: terminalModules, coming: true,
	},
	{
		folder: "internal/cli/remote", is: "a command on a target: how it is written, and what its end means",
		imports: commands, modules: terminalModules, coming: true,
	},
	{
		folder: "internal/cli/terminal", is: "the local terminal: its size, and raw mode",
		imports: []string{"./client"}, modules: []string{"golang.org/x/term"}, coming: true,
	},
	{
		folder: "internal/cli/display", is: "text for people: tables, colors, times, safe words of others",
		imports: []string{"./internal/cli/terminal"}, modules: []string{"k8s.io/apimachinery/..."}, coming: true,
	},
	{
		folder: "internal/cli/exit", is: "exit codes, and the next step after an error",
		imports: []string{"./internal/cli/display"}, coming: true,
	},
	{
		folder: "internal/cli/listen", is: "the local ends of forwards and proxies", coming: true,
	},
	{
		folder: "internal/cli/cp", is: "the command cp: files, over sftp",
		imports: commands, modules: append([]string{"github.com/pkg/sftp"}, terminalModules...),
		lines: 1200, because: "a planner, a transfer and the guards against hostile servers belong to one copy", coming: true,
	},
	{
		folder: "internal/cli/hostkeys", is: "the command hostkeys: scans an SSH host and prints a target that pins its keys",
		imports: commands, modules: append([]string{"golang.org/x/crypto/ssh/..."}, terminalModules...), coming: true,
	},
	{
		folder: "internal/cli/clitest", is: "a cluster with connpool for tests of commands",
		imports: []string{"./..."}, modules: []string{"..."}, coming: true,
	},
	{
		folder: "internal/cli/...", is: "the other commands, each in the package of its name: exec, run, session, proxy, top and more",
		imports: commands, modules: terminalModules, coming: true,
	},
	{
		folder: "test/...", is: "support for tests of the whole: a control plane, sshd, Docker, a node with pods, faults of the network",
		imports: []string{"./..."}, modules: []string{"..."},
	},
	{
		folder: "hack/...", is: "the lab, generators, benchmarks and counters",
		imports: []string{"./..."}, modules: []string{"..."},
	},
}

// sharedByDrivers is what a driver may import of this module.
var sharedByDrivers = []string{
	"./internal/driver", "./internal/driver/keepalive", "./internal/driver/stdio", "./internal/driver/running",
	"./internal/driver/dialerr", "./internal/driver/standby",
}

// apis are the types of both APIs.
var apis = []string{"./api/live/v1alpha1", "./api/v1alpha1"}

// requests is what a request of the live API may import. What differs by request is added in its row.
var requests = append([]string{
	"./internal/driver", "./internal/poolset", "./internal/stream",
	"./internal/registry/use", "./internal/registry/refusal", "./internal/registry/validate",
}, apis...)

// commands is what a command of the plugin may import: no other command.
var commands = append([]string{
	"./client", "./internal/cli/plugin", "./internal/cli/cluster", "./internal/cli/remote", "./internal/cli/terminal",
	"./internal/cli/display", "./internal/cli/exit", "./internal/cli/listen",
}, apis...)

// terminalModules are those of commands.
var terminalModules = []string{"k8s.io/...", "sigs.k8s.io/yaml", "github.com/spf13/...", "golang.org/x/sync/errgroup"}

func layoutRules() []rule {
	return []rule{
		{
			name:  "every package has a row in the layout",
			why:   "a package that came by itself has no limits, and is missing in docs/explanation/architecture.md",
			check: strayPackages,
			bad: map[string]string{
				"internal/connpool/a.go": "package connpool\n",
				"internal/new/a.go":      "package new\n",
				"test/x/y/a_test.go":     "package y\n",
			},
			want: []string{"internal/new: has no row in test/conventions/layout_test.go"},
		},
		{
			name:  "a package imports only what its row allows",
			why:   "the layout is a decision, and an import that comes by the way changes it unseen",
			check: strayImports,
			bad: map[string]string{
				"internal/session/a.go":      "package session\n\nimport (\n\t\"" + module + "/internal/poolset\"\n\t\"k8s.io/x\"\n\t\"io\"\n)\n",
				"internal/session/a_test.go": "package session\n\nimport \"" + module + "/test/x\"\n",
				"internal/egress/a.go":       "package egress\n\nimport \"" + module + "/internal/driver\"\n",
			},
			want: []string{
				"internal/session/a.go: imports " + module + "/internal/poolset",
				"internal/session/a.go: imports k8s.io/x",
			},
		},
		{
			name:  fmt.Sprintf("a package has at most %d lines of production code, or as many as its row allows", defaultLines),
			why:   "what one can hold in mind is bounded: a package that outgrows its row is two packages, or says why not",
			check: longPackages,
			bad: map[string]string{
				"internal/warming/a.go":             "package warming\n" + strings.Repeat("\n", 500),
				"internal/warming/b.go":             "package warming\n" + strings.Repeat("\n", 500),
				"internal/warming/b_test.go":        "package warming\n" + strings.Repeat("\n", 500),
				"internal/connpool/a.go":            "package connpool\n" + strings.Repeat("\n", 2000),
				"internal/apiserver/openapi/a.go":   "// Code generated by x. DO NOT EDIT.\n\npackage openapi\n" + strings.Repeat("\n", 2000),
				"internal/driver/drivertest/run.go": "package drivertest\n" + strings.Repeat("\n", 2000),
			},
			want: []string{"internal/warming: 1002 lines of production code, want at most 1000"},
		},
		{
			name:  "the table of packages in the documentation is the layout",
			why:   "people plan with the table in the documentation: make update-conventions writes it",
			check: staleTable,
			bad: map[string]string{
				"internal/warming/a.go": "package warming\n",
				architecture:            tableStart + "\n| `internal/warming` | warm air | | |\n" + tableEnd + "\n",
			},
			want: []string{architecture + ": the table of packages differs from the layout"},
		},
	}
}

// rowOf returns the row of a folder; an exact one goes before one with "/...".
func rowOf(folder string) (row, bool) {
	var found row
	for _, r := range layout {
		if r.folder == folder {
			return r, true
		}
		if matches([]string{"./" + r.folder}, path.Join(module, folder)) {
			found = r
		}
	}
	return found, found.folder != ""
}

func strayPackages(repository tree) []string {
	var found []string
	for _, s := range repository.sources {
		if _, ok := rowOf(s.dir()); !ok {
			found = append(found, s.dir()+": has no row in test/conventions/layout_test.go")
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func strayImports(repository tree) []string {
	var found []string
	for _, s := range repository.sources {
		r, ok := rowOf(s.dir())
		if !ok || s.isTest() {
			continue
		}
		for _, imported := range s.imports() {
			if !r.allows(imported) {
				found = append(found, s.path+": imports "+imported)
			}
		}
	}
	return found
}

func (r row) allows(imported string) bool {
	if isOurs(imported) {
		return matches(r.imports, imported)
	}
	return isStandard(imported) || slices.Contains(r.modules, "...") || matches(r.modules, imported)
}

func isOurs(imported string) bool { return matches([]string{"./..."}, imported) }

func longPackages(repository tree) []string {
	lines := map[string]int{}
	for _, s := range repository.sources {
		if s.isProduction() {
			lines[s.dir()] += s.lines
		}
	}
	var found []string
	for folder, n := range lines {
		if r, _ := rowOf(folder); n > r.ceiling() {
			found = append(found, fmt.Sprintf("%s: %d lines of production code, want at most %d", folder, n, r.ceiling()))
		}
	}
	slices.Sort(found)
	return found
}

// isProduction reports whether a file is part of a program or of the client, and
// written by hand. hack/measure counts the same files.
func (s source) isProduction() bool {
	room := first(s.path)
	return slices.Contains([]string{"api", "client", "cmd", "internal"}, room) &&
		!s.isTest() && !s.isGenerated() && !strings.HasSuffix(s.dir(), "test")
}

func (r row) ceiling() int {
	if r.lines == 0 {
		return defaultLines
	}
	return r.lines
}

// The table of packages in the documentation stands between these two lines.
const (
	architecture = "docs/explanation/architecture.md"
	tableStart   = "<!-- The layout in test/conventions. `make update-conventions` writes this table. -->"
	tableEnd     = "<!-- The end of the layout. -->"
)

func staleTable(repository tree) []string {
	text := repository.text[architecture]
	if text != "" && text != withTable(repository) {
		return []string{architecture + ": the table of packages differs from the layout"}
	}
	return nil
}

// withTable returns the architecture document with the table of the packages that exist.
func withTable(repository tree) string {
	before, rest, _ := strings.Cut(repository.text[architecture], tableStart)
	_, after, _ := strings.Cut(rest, tableEnd)
	return before + tableStart + "\n\n" + table(repository) + "\n" + tableEnd + after
}

// table has the rows of the packages that exist.
func table(repository tree) string {
	used := map[string]bool{}
	for _, s := range repository.sources {
		r, _ := rowOf(s.dir())
		used[r.folder] = true
	}
	var text strings.Builder
	text.WriteString("| package | what it is | may import | lines at most |\n|---|---|---|---|\n")
	for _, r := range layout {
		if used[r.folder] {
			fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", r.folder, r.is, r.importsInWords(repository), r.linesInWords())
		}
	}
	return text.String()
}

// importsInWords is a cell of the table: packages of this module that exist, then
// other modules.
func (r row) importsInWords(repository tree) string {
	if slices.Contains(r.modules, "...") {
		return "anything"
	}
	var names []string
	for _, pattern := range r.imports {
		folder := strings.TrimPrefix(pattern, "./")
		if exists(repository, strings.TrimSuffix(folder, "/...")) {
			names = append(names, "`"+folder+"`")
		}
	}
	modules, areKubernetes := without(r.modules, kubernetes)
	if areKubernetes {
		names = append(names, "Kubernetes libraries")
	}
	for _, pattern := range modules {
		names = append(names, strings.TrimSuffix(pattern, "/..."))
	}
	if len(names) == 0 {
		return "the standard library only"
	}
	return strings.Join(names, ", ")
}

// without returns the modules that are not in the set, and reports whether the whole set was there.
func without(modules, set []string) (rest []string, all bool) {
	for _, module := range modules {
		if !slices.Contains(set, module) {
			rest = append(rest, module)
		}
	}
	if len(modules)-len(rest) < len(set) {
		return modules, false
	}
	return rest, true
}

func (r row) linesInWords() string {
	if slices.Contains([]string{"test", "hack"}, first(r.folder)) || strings.HasSuffix(r.folder, "test") {
		return "-"
	}
	return strconv.Itoa(r.ceiling())
}

func TestTheLayoutIsComplete(t *testing.T) {
	repository := load(t, os.DirFS("../.."))
	for _, r := range layout {
		if r.is == "" || (r.lines == 0) != (r.because == "") {
			t.Errorf("%s: want a description, and a reason exactly if it has a ceiling of its own", r.folder)
		}
		if !r.coming && !exists(repository, strings.TrimSuffix(r.folder, "/...")) {
			t.Errorf("%s: has a row in the layout, but does not exist", r.folder)
		}
	}
}

func TestUpdateTheTableOfPackages(t *testing.T) {
	if !*update {
		return // the rule about the table does the comparing
	}
	text := withTable(load(t, os.DirFS("../..")))
	if err := os.WriteFile("../../"+architecture, []byte(text), 0o600); err != nil {
		t.Fatalf("update the table of packages: %v", err)
	}
}
