// Package exec runs the commands of the live API: streamed after an upgrade, or as
// a JSON object that comes back with its result. All take the same path; a Backend says
// where they run, in a pool or in a session.
//
//	commands := exec.NewCommands(gate.Memory)
//	storage["connectionpools/exec"] = commands.Storage(exec.InPools(gate))
//	storage["sessions/exec"] = commands.Storage(sessions.AdmitCommand)
//
// Every error until a request has its lease is an HTTP status. From then on the answer is
// the result with its outcome, which is a 200 in the JSON form.
//
// Trade-offs: an input of the JSON form that would take too much memory is refused, and of
// an output only the beginning is kept; streams have no such bounds.
package exec

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/listing"
	"github.com/connpool/connpool/internal/registry/settle"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
)

// Backend is where the command of one request runs.
type Backend struct {
	Rules

	// Scope identifies the backend among all in which a user's request IDs may be the same.
	Scope func(ctx context.Context) (string, error)
	// Open gets what the command needs to run, such as a lease. Its error is a refusal.
	// The Runner must be closed.
	Open func(ctx context.Context, command *Command) (Runner, error)
	// Part returns the backend of a part of the use, on one of many targets. nil means that
	// there is one target only.
	Part func(part *use.Use) Backend
	// List answers a request that is a Listing. nil means that there are none.
	List func(ctx context.Context, spec *live.ListingSpec) (*live.ListingStatus, error)
}

// Rules say how commands differ from those on a lease of their own.
type Rules struct {
	// Forbidden are the fields that commands do not have, each with what to do instead.
	Forbidden map[string]string
	// AfterTimeout is added to the message when timeoutSeconds have ended a command.
	AfterTimeout string
}

// Command is a command as its request describes it.
type Command struct {
	driver.Command

	Target string // may be empty
	// Spread prefers the connection with the fewest uses.
	Spread bool
	// Root is the field that describes the command; nil when it does so at the top.
	Root *field.Path
}

// Runner runs one command.
type Runner interface {
	// Lease describes the lease on which the command runs. Run may change it.
	Lease() use.LeaseInfo
	// Watch returns a context that ends when the command may run no longer: its user
	// has lost the permission, or what it runs in has ended. stop must be called.
	Watch(ctx context.Context) (watched context.Context, stop func())
	// Run runs the command, at most once. driver.OutcomeOf its error tells how it ended.
	Run(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error)
	// Close gives back what Open got, as far as Run has not. It is called once, after Run
	// or instead of it.
	Close()
}

// AdmitFunc authorizes a request to run a command in the object of that name.
type AdmitFunc func(ctx context.Context, name string) (*use.Use, Backend, error)

// InPools admits commands that run on connections of pools.
func InPools(gate *use.Gate) AdmitFunc {
	return func(ctx context.Context, pool string) (*use.Use, Backend, error) {
		u, err := gate.Admit(ctx, pool, "exec")
		if err != nil {
			return nil, Backend{}, err
		}
		return u, inPool{u}.backend(), nil
	}
}

type inPool struct{ use *use.Use }

func (p inPool) backend() Backend {
	return Backend{Scope: p.scope, Open: p.open, List: p.list, Part: func(part *use.Use) Backend { return inPool{part}.backend() }}
}

func (p inPool) scope(ctx context.Context) (string, error) {
	pool, err := p.use.Pool(ctx)
	if err != nil {
		return "", err
	}
	return string(pool.UID), nil
}

func (p inPool) list(ctx context.Context, spec *live.ListingSpec) (*live.ListingStatus, error) {
	return listing.List(ctx, p.use, spec)
}

func (p inPool) open(ctx context.Context, command *Command) (Runner, error) {
	route, err := p.use.Route(ctx, command.Root.Child("target"), command.Target)
	if err != nil {
		return nil, err
	}
	route.Spread = command.Spread
	lease, err := p.use.Lease(ctx, route, fits(command))
	if err != nil {
		return nil, err
	}
	place, err := settle.Place(ctx, p.use, command.Root, lease, command.Place)
	if err != nil {
		return nil, err
	}
	info := route.LeaseInfo(lease)
	info.Signals = signalsBy(lease.Conn())
	if command.Place.Container == "" {
		info.Container = place.Container
	}
	command.Place = place
	return &leased{use: p.use, route: route, lease: lease, info: info}, nil
}

func signalsBy(conn driver.Conn) live.SignalsBy {
	if signaler, ok := conn.(driver.Signaler); ok {
		return live.SignalsBy(signaler.SignalsBy())
	}
	return live.SignalsByNone
}

// fits returns a function that says whether a target has the place of a command.
func fits(command *Command) use.Fit {
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		problems := validate.Place(command.Root, command.Place)(target)
		if kind := target.Spec.Type(); command.Subsystem != "" && kind != v1alpha1.TargetTypeSSH {
			problems = append(problems, field.Forbidden(command.Root.Child("subsystem"),
				validate.OfType(target.Name, kind)+", which has no subsystems; run a program with command"))
		}
		return problems
	}
}

// leased runs a command on a lease of its own.
type leased struct {
	use   *use.Use
	route use.Route
	lease poolset.Lease
	info  use.LeaseInfo
	// ran reports whether the command ran, which ends the lease.
	ran bool
}

// Lease implements Runner.
func (l *leased) Lease() use.LeaseInfo { return l.info }

// Watch implements Runner.
func (l *leased) Watch(ctx context.Context) (watched context.Context, stop func()) {
	return l.use.Watch(ctx)
}

// Run implements Runner.
func (l *leased) Run(ctx context.Context, command driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
	l.ran = true
	execution, err := l.use.Gate.Config.Pools.ExecOn(ctx, l.lease, l.route.Request(), command, streams)
	if execution.Target.UID != "" { // a refused channel may have led to another connection
		info := l.route.LeaseInfoFor(execution)
		info.Container = l.info.Container
		l.info = info
	}
	return execution.ExitStatus, l.route.Failure(ctx, err)
}

// Close implements Runner.
func (l *leased) Close() {
	if !l.ran {
		l.lease.Release()
	}
}
