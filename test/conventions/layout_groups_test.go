package conventions

// sharedByDrivers is what a driver may import of this module.
var sharedByDrivers = []string{
	"./internal/driver", "./internal/driver/keepalive", "./internal/driver/stdio", "./internal/driver/running",
	"./internal/driver/dialerr", "./internal/driver/standby", "./internal/driver/keybounds",
}

// apis are the types of both APIs.
var apis = []string{"./api/live/v1alpha1", "./api/v1alpha1"}

// belowUse is what registry/use may import, and every request of the live API too.
var belowUse = append([]string{
	"./internal/audit", "./internal/driver", "./internal/poolset", "./internal/stream", "./internal/registry/refusal",
	"./internal/registry/traffic", "./internal/registry/validate",
}, apis...)

// requests is what a request of the live API may import. What differs by request is added in its row.
var requests = append([]string{"./internal/registry/use"}, belowUse...)

// commands is what a command of the plugin may import: no other command.
var commands = append([]string{
	"./client", "./internal/cli/plugin", "./internal/cli/cluster", "./internal/cli/places", "./internal/cli/remote", "./internal/cli/terminal",
	"./internal/cli/display", "./internal/cli/exit", "./internal/cli/listen", "./internal/cli/output", "./internal/columns",
	"./internal/natural",
}, apis...)

// terminalModules are those of commands.
var terminalModules = []string{"k8s.io/...", "sigs.k8s.io/yaml", "github.com/spf13/...", "golang.org/x/sync/errgroup"}

// group is a set of patterns under a name.
type group struct {
	name    string
	members []string
}

// groups are the sets that many rows share. The table in the documentation names
// them, and lists their members once. A group stands before those that it contains.
var groups = []group{
	{"what drivers share", sharedByDrivers},
	{"what requests share", requests},
	{"what commands share", commands},
	{"both APIs", apis},
	{"libraries of Kubernetes", kubernetes},
	{"libraries for commands", terminalModules},
}
