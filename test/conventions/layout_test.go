package conventions

import "slices"

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
}

// defaultLines bounds a package that gives no reason to be longer.
const defaultLines = 1000

const aDriver = "one protocol is one package, with its commands, streams, identity checks and error classes"

var kubernetes = []string{"k8s.io/...", "sigs.k8s.io/...", "github.com/go-logr/logr"}

// layout is every package: what it is, what it may import, how long it may get.
// docs/explanation/architecture.md shows it, and make update-conventions writes it there.
var layout = append([]row{
	{
		folder: "api/v1alpha1", is: "the custom resources: what a user may declare, and the status that the operator writes",
		modules: []string{"k8s.io/apimachinery/..."},
		lines:   1475, because: "three quarters of it are the text of `kubectl explain`",
	},
	{
		folder: "api/live/v1alpha1", is: "the types of the live API: connections, sessions, commands, lists, uses, the options of streams",
		modules: []string{"k8s.io/apimachinery/..."},
		lines:   1300, because: "most of it is the text of the reference",
	},
	{
		folder: "client", is: "the Go client of the live API: commands and streams with their outcomes",
		imports: []string{"./api/live/v1alpha1", "./internal/halfclose", "./internal/kubestream", "./internal/redirect"},
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/streaming/...", "k8s.io/utils/...",
			"github.com/gorilla/websocket", "github.com/moby/spdystream/...",
		},
		lines: 2500, because: "it speaks exec, port-forward, sessions and the proxy, each in a form that keeps the outcome",
	},
	{
		folder: "client/direct", is: "finds the operator's Service, past kube-apiserver, and verifies it",
		imports: []string{"./api/live/v1alpha1"}, modules: []string{"k8s.io/apimachinery/...", "k8s.io/client-go/rest"},
	},
	{
		folder: "client/applyconfiguration/...", is: "server-side apply for the custom resources; generated",
		imports: []string{"./api/v1alpha1", "./client/applyconfiguration/..."},
		modules: []string{"k8s.io/apimachinery/...", "k8s.io/client-go/...", "sigs.k8s.io/structured-merge-diff/..."},
	},
	{
		folder: "cmd/manager", is: "the operator's flags, and the choice of its drivers",
		imports: []string{"./api/...", "./internal/..."},
		modules: append([]string{"go.uber.org/zap/zapcore"}, kubernetes...),
	},
	{
		folder: "cmd/kubectl-connpool", is: "the main function of the kubectl plugin",
		imports: []string{"./internal/cli/...", "./internal/version"},
		modules: []string{"k8s.io/cli-runtime/...", "k8s.io/client-go/..."},
	},
	{
		folder: "internal/embedded", is: "time zones and certificate authorities, for an image without files",
		modules: []string{"golang.org/x/crypto/x509roots/fallback/bundle"},
	},
	{
		folder: "internal/version", is: "which version a program is, and from which commit it was built",
	},
	{
		folder: "internal/list", is: "linked lists whose elements are part of their values; shared with the dial budget",
	},
	{
		folder: "internal/natural", is: "the order of names as people count; shared by the live API and the plugin",
	},
	{
		folder: "internal/background", is: "work that no caller waits for, and its end",
	},
	{
		folder: "internal/dialbudget", is: "how many dials run at once: for the process, a host, a jump host, with shares by namespace",
		imports: []string{"./internal/list"},
	},
	{
		folder: "internal/connpool", is: "the engine: a bounded set of warm connections of any type",
		imports: []string{"./internal/list"},
		lines:   2300, because: "everything that shares its one lock is in it",
	},
	{
		folder: "internal/driver", is: "what a protocol has to offer, and the classes of its failures",
		lines: 600, because: "every driver and every caller depends on it, so it holds contracts and next to no code",
	},
	{
		folder: "internal/driver/inventory", is: "the places of a target as its server lists them, read within bounds; shared by docker and kube",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/driver/keepalive", is: "when a connection that does not answer is dead; shared by the drivers",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/driver/stdio", is: "the input and output of a command; shared by the drivers",
	},
	{
		folder: "internal/driver/running", is: "the commands that run on a connection, to end them with it; shared by the drivers",
		imports: []string{"./internal/list"},
	},
	{
		folder: "internal/driver/dialerr", is: "why a TCP connection failed, as a classified error; shared by the drivers",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/driver/standby", is: "sockets that are dialed ahead and watched until they are needed; shared by the drivers",
	},
	{
		folder: "internal/driver/keybounds", is: "how long the keys and chains of a Secret may be; shared by the drivers",
	},
	{
		folder: "internal/driver/runtimeerr", is: "why a container runtime started no process for a command; shared by docker and kube",
	},
	{
		folder: "internal/driver/shellquote", is: "words as a command line, from which any login shell gets the same words",
	},
	{
		folder: "internal/driver/ssh/flood", is: "the end of a connection whose server sends too much that was not asked for",
		imports: []string{"./internal/driver"}, modules: []string{"golang.org/x/crypto/ssh"},
	},
	{
		folder: "internal/driver/ssh", is: "the SSH driver",
		imports: append([]string{"./internal/driver/shellquote", "./internal/driver/ssh/..."}, sharedByDrivers...),
		modules: []string{"golang.org/x/crypto/ssh/...", "golang.org/x/sys/unix"},
		lines:   2500, because: aDriver,
	},
	{
		folder: "internal/driver/ssh/knownhosts", is: "the host keys that a target pins, and the check of what a server proves",
		imports: []string{"./internal/driver", "./internal/driver/ssh/sshkey"}, modules: []string{"golang.org/x/crypto/ssh/..."},
	},
	{
		folder: "internal/driver/ssh/sshkey", is: "private keys in all their formats, and what is wrong with a key",
		imports: []string{"./internal/driver/keybounds"}, modules: []string{"golang.org/x/crypto/ssh/..."},
	},
	{
		folder: "internal/driver/docker", is: "the Docker driver",
		imports: append(slices.Clone(sharedByDrivers),
			"./internal/driver/docker/census", "./internal/driver/docker/containers", "./internal/driver/inventory", "./internal/driver/runtimeerr"),
		modules: []string{"github.com/docker/docker/...", "github.com/containerd/errdefs", "golang.org/x/net/http/httpguts"},
		lines:   2600, because: aDriver,
	},
	{
		folder: "internal/driver/docker/census", is: "which processes of a container belong to a command: a script, and functions of its output",
	},
	{
		folder: "internal/driver/docker/containers", is: "the list of containers that an engine answers with",
		imports: []string{"./internal/driver", "./internal/driver/inventory"},
	},
	{
		folder: "internal/driver/kube", is: "the Kubernetes driver",
		imports: append(slices.Clone(sharedByDrivers),
			"./internal/driver/inventory", "./internal/driver/runtimeerr", "./internal/kubeconfig", "./internal/kubestream"),
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/client-go/...", "k8s.io/streaming/...",
			"github.com/gorilla/websocket", "golang.org/x/net/http/httpguts",
		},
		lines: 2600, because: aDriver,
	},
	{
		folder: "internal/driver/drivertest", is: "the conformance suite that every driver passes, and a fake driver",
		imports: []string{"./internal/driver", "./internal/driver/inventory"}, modules: []string{"github.com/google/go-cmp/..."},
	},
	{
		folder: "internal/spdyframe", is: "SPDY frames, looked at before the library takes them; for both sides of a port-forward",
		modules: []string{"github.com/moby/spdystream/..."},
	},
	{
		folder: "internal/kubestream", is: "the client side of Kubernetes' exec and port-forward protocols, and the heartbeat of both sides",
		imports: []string{"./internal/spdyframe"},
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/streaming/...", "github.com/gorilla/websocket", "github.com/moby/spdystream/...",
		},
		lines: 1050, because: "commands and ports have one socket and one heartbeat in common, which the live API extends by signals",
	},
	{
		folder: "internal/kubeconfig", is: "what a context of a kubeconfig refers to, read within bounds and once for each content",
		modules: []string{"go.yaml.in/yaml/v3", "k8s.io/client-go/...", "k8s.io/utils/..."},
	},
	{
		folder: "internal/egress", is: "TCP connections to addresses that the policy allows",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/reach/preparation", is: "credentials prepared once for each version, with a share for each namespace",
		imports: []string{"./internal/dialbudget", "./internal/driver"},
	},
	{
		folder: "internal/reach/refusals", is: "which dials are refused for now, by the breaker of an access version or the throttle of a server",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/reach/dialing", is: "when a dial passed which stage",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/reach", is: "how a target is reached: access versions, jump hosts, and what a dial passes",
		imports: []string{
			"./internal/background", "./internal/connpool", "./internal/dialbudget", "./internal/driver", "./internal/reach/...",
		},
		lines: 1100, because: "jump hosts are pools of their own, which dial as their targets do",
	},
	{
		folder: "internal/poolset/healthcommand", is: "running a pool's health command, and why it failed",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/poolset", is: "all live pools of the process, by the UIDs of target and pool",
		imports: []string{"./internal/background", "./internal/connpool", "./internal/dialbudget", "./internal/driver", "./internal/poolset/...", "./internal/reach", "./internal/reach/dialing", "./internal/reach/refusals"},
		lines:   1725, because: "desired state and requests meet in it, so the rules of both are there",
	},
	{
		folder: "internal/poolset/routing", is: "the order in which the targets of a pool have their turns, for requests that name none",
		imports: []string{"./internal/connpool"},
	},
	{
		folder: "internal/warming", is: "how many warm connections a schedule wants at a time: pure functions",
		imports: []string{"./api/v1alpha1"}, modules: []string{"github.com/robfig/cron/v3"},
	},
	{
		folder: "internal/logs", is: "what of libraries' log lines is left out or is no error, and what they print",
		modules: []string{"github.com/go-logr/logr"},
	},
	{
		folder: "internal/logs/output", is: "the log on its way to what reads it, which nothing waits for",
	},
	{
		folder: "internal/tracing", is: "spans of OpenTelemetry, within what clients may ask for, and their way to a collector",
		modules: []string{"github.com/go-logr/logr", "go.opentelemetry.io/otel/...", "golang.org/x/time/rate"},
	},
	{
		folder: "internal/audit", is: "how audit lines name users and requests, and write words that others have chosen",
		modules: kubernetes,
	},
	{
		folder: "internal/controller/connectiontarget", is: "the controller that passes a target to the pool set and writes the target's status",
		imports: []string{
			"./api/v1alpha1", "./internal/audit", "./internal/connpool", "./internal/controller/consent",
			"./internal/controller/credentials", "./internal/controller/ownership", "./internal/controller/shares", "./internal/controller/status",
			"./internal/driver", "./internal/kubeconfig",
			"./internal/poolset", "./internal/reach", "./internal/warming",
		},
		modules: kubernetes,
		lines:   1600, because: "a target's facts come from five kinds of objects, and each has its checks and its conditions",
	},
	{
		folder: "internal/controller/connectionpool", is: "the controller that adds the targets' statuses up into the pool's",
		imports: []string{"./api/v1alpha1", "./internal/controller/status", "./internal/metrics", "./internal/warming"},
		modules: kubernetes,
	},
	{
		folder: "internal/controller/credentials", is: "Secrets and ConfigMaps that targets may use, and those read again because a target refuses them",
		imports: []string{"./api/v1alpha1"}, modules: kubernetes,
	},
	{
		folder: "internal/controller/consent", is: "to which hosts the owner of a Secret lets its credentials go",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/controller/ownership", is: "which targets the leading replica has not taken on, although it had the time",
		imports: []string{"./api/v1alpha1"}, modules: kubernetes,
	},
	{
		folder: "internal/controller/shares", is: "what one pool has of one target: connections, whether the target serves, uses",
		imports: []string{"./api/v1alpha1", "./internal/controller/status", "./internal/driver", "./internal/poolset"},
		modules: kubernetes,
	},
	{
		folder: "internal/controller/status", is: "when a status is worth a write, how it is written, and what events tell of it",
		imports: []string{"./api/v1alpha1", "./internal/driver"},
		modules: append(slices.Clone(kubernetes), "golang.org/x/time/rate"),
	},
	{
		folder: "internal/session", is: "a shell that stays, on any connection that runs commands",
		imports: []string{"./internal/driver", "./internal/driver/shellquote"}, modules: []string{"golang.org/x/sync/semaphore"},
	},
	{
		folder: "internal/session/sessiontest", is: "a shell for tests of sessions",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/halfclose", is: "the end of one direction of an upgraded connection, across proxies that would end both",
	},
	{
		folder: "internal/redirect", is: "the redirects of a target, across proxies that refuse them",
	},
	{
		folder: "internal/stream", is: "the server side of Kubernetes' exec and port-forward protocols",
		imports: []string{"./internal/driver", "./internal/kubestream", "./internal/spdyframe"},
		modules: []string{
			"k8s.io/apimachinery/...", "k8s.io/streaming/...", "github.com/gorilla/websocket", "github.com/moby/spdystream/...",
		},
		lines: 2000, because: "it serves two protocols on two transports each, with the bounds that the libraries lack",
	},
	{
		folder: "internal/registry/use", is: "what all uses share: permission, limits, lease, result, audit, and why a lease is refused",
		imports: append([]string{
			"./internal/connpool", "./internal/natural", "./internal/registry/delivery", "./internal/registry/history",
			"./internal/registry/limits", "./internal/registry/naming", "./internal/registry/quota", "./internal/registry/figures", "./internal/tracing",
		}, belowUse...),
		modules: kubernetes,
		lines:   1275, because: "the lease, its refusals, its audit and its spans are one path, which every request takes",
	},
	{
		folder: "internal/registry/figures", is: "the figures of one use: how long it took, beside its waits, and why it failed",
		imports: []string{"./internal/poolset"},
	},
	{
		folder: "internal/registry/refusal", is: "the HTTP status and the causes of every refused request",
		imports: apis, modules: kubernetes,
	},
	{
		folder: "internal/registry/validate", is: "the rules for fields that several requests have",
		imports: append([]string{"./internal/driver"}, apis...), modules: kubernetes,
	},
	{
		folder: "internal/registry/idempotency", is: "the results of commands, kept by request ID",
		imports: append([]string{"./internal/registry/quota", "./internal/registry/refusal"}, apis...),
	},
	{
		folder: "internal/registry/quota", is: "what all users, each namespace and each user may take of what is scarce, such as memory",
	},
	{
		folder: "internal/registry/history", is: "who uses and has used the pools, within a bound for each namespace",
		imports: []string{"./api/live/v1alpha1", "./internal/list"}, modules: kubernetes,
	},
	{
		folder: "internal/registry/traffic", is: "the bytes that uses transfer, counted while they do",
		imports: []string{"./internal/driver"},
	},
	{
		folder: "internal/registry/limits", is: "how many uses and how much memory of requests there may be at the same time",
		imports: append([]string{"./internal/registry/quota", "./internal/registry/refusal"}, apis...),
	},
	{
		folder: "internal/registry/delivery", is: "output on its way to clients, and what is cut of it when memory is short",
		imports: []string{"./internal/registry/quota"},
	},
	{
		folder: "internal/registry/naming", is: "the names of live connections",
		imports: []string{"./internal/poolset"}, modules: append([]string{"github.com/google/uuid"}, kubernetes...),
	},
	{
		folder: "internal/columns", is: "what a table shows of connections and sessions; shared by the live API and the plugin",
		imports: []string{"./api/live/v1alpha1"}, modules: []string{"k8s.io/apimachinery/..."},
	},
	{
		folder: "internal/registry/list", is: "what resources have in common whose objects are not stored: selectors, order, tables",
		imports: []string{"./internal/columns", "./internal/driver", "./internal/registry/refusal"}, modules: kubernetes,
	},
	{
		folder: "internal/registry/listing", is: "what commands of a pool can name: its targets, and the containers or pods of one",
		imports: append([]string{"./internal/driver/inventory", "./internal/registry/quota"}, requests...),
		modules: kubernetes,
	},
	{
		folder: "internal/registry/settle", is: "the place of a command that names none: the only container, or a refusal that names what runs",
		imports: append([]string{"./internal/driver/inventory"}, requests...),
		modules: kubernetes,
	},
	{
		folder: "internal/registry/fanout", is: "one command on many targets: which, how many at the same time, and the lines of their results",
		imports: append([]string{"./internal/driver", "./internal/natural", "./internal/registry/delivery"}, apis...),
		modules: kubernetes,
	},
	{
		folder: "internal/registry/output", is: "what commands of the JSON form have written, within the memory for it",
		imports: []string{"./api/live/v1alpha1", "./internal/registry/quota"},
	},
	{folder: "internal/registry/unicode", is: "whether a JSON text arrives as it was sent"},
	{
		folder: "internal/registry/exec", is: "commands, as streams and as JSON, in a pool or in a session",
		imports: append([]string{
			"./internal/registry/delivery", "./internal/registry/idempotency", "./internal/registry/limits", "./internal/registry/listing",
			"./internal/registry/fanout", "./internal/registry/output", "./internal/registry/quota", "./internal/registry/settle",
			"./internal/registry/unicode",
		}, requests...),
		modules: kubernetes,
		lines:   1275, because: "a command has three forms and a stop, and each reads and answers in its own way",
	},
	{
		folder: "internal/registry/session", is: "the session objects: who owns one, how long it lives",
		imports: append([]string{
			"./internal/columns", "./internal/registry/exec", "./internal/registry/list", "./internal/registry/settle", "./internal/session",
		}, requests...),
		modules: kubernetes,
	},
	{
		folder: "internal/registry/proxy", is: "requests passed on to a target's HTTP API",
		imports: append([]string{
			"./internal/halfclose", "./internal/redirect", "./internal/registry/delivery", "./internal/registry/figures",
		}, requests...),
		modules: kubernetes,
	},
	{
		folder: "internal/registry/forward", is: "port-forwards, and their limits",
		imports: append([]string{"./internal/registry/delivery"}, requests...), modules: kubernetes,
	},
	{
		folder: "internal/registry/registrytest", is: "the live API over fake connections, for tests of its requests",
		imports: []string{"./..."}, modules: []string{"..."},
	},
	{
		folder: "internal/registry", is: "all resources of the live API; connections, drain and check are its own",
		imports: append([]string{
			"./internal/audit", "./internal/columns", "./internal/connpool", "./internal/driver", "./internal/poolset", "./internal/stream",
			"./internal/registry/...",
		}, apis...),
		modules: kubernetes,
	},
	{
		folder: "internal/apiserver", is: "the generic API server around the registry: who the user is, what the user may do",
		imports: []string{"./api/live/v1alpha1", "./internal/apiserver/...", "./internal/audit", "./internal/driver", "./internal/registry/..."},
		modules: append([]string{"golang.org/x/sync/singleflight"}, kubernetes...),
	},
	{
		folder: "internal/apiserver/trust", is: "which authorities certify clients and kube-apiserver's front proxy",
		modules: kubernetes,
	},
	{
		folder: "internal/apiserver/outage", is: "the answer to requests about which kube-apiserver could not be asked",
		imports: []string{"./internal/registry/refusal"}, modules: kubernetes,
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
		modules: kubernetes,
	},
	{
		folder: "internal/watched", is: "which namespaces the operator watches, whether it may, and the refusal in others",
		imports: append([]string{"./internal/audit", "./internal/registry/refusal"}, apis...),
		modules: kubernetes,
	},
	{
		folder: "internal/metrics", is: "what Prometheus scrapes: a snapshot of the pool set, latencies, the conditions of pools, facts of the process",
		imports: []string{"./internal/connpool", "./internal/driver", "./internal/poolset", "./internal/reach/dialing"},
		modules: []string{"github.com/prometheus/client_golang/..."},
	},
	{
		folder: "internal/operator", is: "the whole operator: controllers, live API and pool set, wired, run and drained",
		imports: []string{"./api/...", "./internal/..."},
		modules: append([]string{"github.com/KimMachineGun/automemlimit/memlimit", "github.com/prometheus/client_golang/prometheus"}, kubernetes...),
	},
	{
		folder: "internal/cli", is: "the kubectl plugin: its commands, in groups",
		imports: append([]string{"./client", "./internal/cli/..."}, apis...),
		modules: terminalModules,
	},
	{
		folder: "internal/cli/plugin", is: "what commands are made with: the factory, common flags, completion",
		imports: []string{
			"./api/live/v1alpha1", "./client", "./internal/cli/cluster", "./internal/cli/display", "./internal/cli/exit", "./internal/cli/places",
		},
		modules: terminalModules,
	},
	{
		folder: "internal/cli/tracecontext", is: "the trace of the environment, on the requests of the plugin",
		modules: []string{"k8s.io/client-go/rest"},
	},
	{
		folder: "internal/cli/requestlog", is: "the requests of the plugin, logged as kubectl does",
	},
	{
		folder: "internal/cli/road", is: "the way to the operator, past kube-apiserver or through it, and what earlier commands found",
		imports: []string{"./client", "./client/direct", "./internal/cli/memory"}, modules: []string{"k8s.io/client-go/rest"},
	},
	{
		folder: "internal/cli/memory", is: "what runs of the plugin find out for later runs, in files of their user",
		modules: []string{"k8s.io/client-go/rest"},
	},
	{
		folder: "internal/cli/login", is: "tokens of the programs of kubeconfigs, shared between runs where the user asks for it",
		imports: []string{"./internal/cli/memory"}, modules: []string{"k8s.io/client-go/rest", "k8s.io/client-go/transport"},
	},
	{
		folder: "internal/cli/cluster", is: "the cluster that a command talks to, and what to do when it refuses",
		imports: append([]string{
			"./client", "./client/direct", "./internal/cli/exit", "./internal/cli/login", "./internal/cli/requestlog", "./internal/cli/road",
			"./internal/cli/tracecontext",
			"./internal/embedded",
		}, apis...),
		modules: terminalModules,
		lines:   1350, because: "each way to ask is beside what its refusal means, and what the user can do about it",
	},
	{
		folder: "internal/cli/places", is: "the targets, containers and pods that a command through a pool can name",
		imports: append([]string{"./client"}, apis...), modules: terminalModules,
	},
	{
		folder: "internal/cli/remote", is: "a command on a target: how it is written, and what its end means",
		imports: []string{
			"./api/live/v1alpha1", "./client", "./internal/cli/cluster", "./internal/cli/display", "./internal/cli/exit", "./internal/cli/plugin",
		},
		modules: terminalModules,
	},
	{
		folder: "internal/cli/terminal", is: "the local terminal: its size, and raw mode",
		imports: []string{"./client"}, modules: []string{"golang.org/x/term"},
	},
	{
		folder: "internal/cli/display", is: "text for people: tables, colors, times, safe words of others",
		imports: []string{"./internal/cli/terminal", "./internal/columns"}, modules: []string{"k8s.io/apimachinery/..."},
	},
	{
		folder: "internal/cli/output", is: "how lists are shown: tables, JSONPaths, columns of the user's choice, order, and what changes",
		imports: []string{"./internal/cli/display", "./internal/cli/exit", "./internal/cli/plugin", "./internal/columns"},
		modules: terminalModules,
	},
	{
		folder: "internal/cli/exit", is: "exit codes, and the next step after an error",
		imports: []string{"./internal/cli/display"},
	},
	{
		folder: "internal/cli/listen", is: "the local ends of forwards and proxies",
	},
	{
		folder: "internal/cli/cp/sftpclient", is: "an sftp client on a target, guarded against what servers send, and why there is none",
		imports: commands, modules: append([]string{"github.com/pkg/sftp"}, terminalModules...),
	},
	{
		folder: "internal/cli/cp/progress", is: "how much of a copy is done, shown on a terminal",
		imports: []string{"./internal/cli/terminal"},
	},
	{
		folder: "internal/cli/cp/location", is: "the two sides of a copy, as they stand on a command line",
		imports: []string{"./internal/cli/cluster"},
	},
	{
		folder: "internal/cli/cp/notes", is: "what a user should know about single files of a copy",
		imports: []string{"./internal/cli/display"},
	},
	{
		folder: "internal/cli/cp/tree", is: "how far a tree of files is trusted that another machine lists",
	},
	{
		folder: "internal/cli/cp/tarstream", is: "trees of files as tar streams, guarded against what containers send",
		imports: []string{"./internal/cli/cp/tree"},
	},
	{
		folder: "internal/cli/cp/container", is: "the files of a container or pod, by programs that run in it",
		imports: []string{"./client", "./internal/cli/display", "./internal/cli/exit"},
	},
	{
		folder: "internal/cli/cp/filesystem", is: "the two sides of a copy: what each must offer, the files of this machine, and what can go wrong",
		imports: []string{"./client"}, modules: []string{"github.com/pkg/sftp"},
	},
	{
		folder: "internal/cli/cp/plan", is: "what there is to copy, listed from a side that is not trusted",
		imports: []string{"./internal/cli/cp/filesystem", "./internal/cli/cp/tree"},
	},
	{
		folder: "internal/cli/cp/digest", is: "whether what arrived is what was sent, by the SHA-256 of both sides",
		imports: []string{"./internal/cli/cp/..."},
	},
	{
		folder: "internal/cli/cp/pieces", is: "one file in many requests at once", modules: []string{"golang.org/x/sync/errgroup"},
	},
	{
		folder: "internal/cli/cp/transfer", is: "what was planned is copied from one side to the other; the other one is not trusted",
		imports: []string{"./internal/cli/cp/..."},
		modules: []string{"github.com/pkg/sftp", "golang.org/x/sync/errgroup"},
	},
	{
		folder: "internal/cli/cp", is: "the command cp: files of hosts over sftp, and of containers and pods over exec",
		imports: append([]string{"./internal/cli/cp/..."}, commands...), modules: append([]string{"github.com/pkg/sftp"}, terminalModules...),
	},
}, lastRows...)
