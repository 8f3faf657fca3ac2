package exec

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
)

// InPools admits commands that run on connections of pools.
func InPools(gate *use.Gate) AdmitFunc {
	return func(ctx context.Context, pool string) (*use.Use, Backend, error) {
		u, err := gate.Admit(ctx, pool, "exec")
		if err != nil {
			return nil, Backend{}, err
		}
		p := inPool{u}
		return u, Backend{Scope: p.scope, Open: p.open}, nil
	}
}

type inPool struct{ use *use.Use }

func (p inPool) scope(ctx context.Context) (string, error) {
	pool, err := p.use.Pool(ctx)
	if err != nil {
		return "", err
	}
	return string(pool.UID), nil
}

func (p inPool) open(ctx context.Context, command *Command) (Runner, error) {
	route, err := p.use.Route(ctx, command.Root.Child("target"), command.Target)
	if err != nil {
		return nil, err
	}
	lease, err := p.use.Lease(ctx, route, fits(command))
	if err != nil {
		return nil, err
	}
	return &leased{use: p.use, route: route, lease: lease, info: route.LeaseInfo(lease)}, nil
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
		l.info = l.route.LeaseInfoFor(execution)
	}
	return execution.ExitStatus, l.route.Failure(ctx, err)
}

// Close implements Runner.
func (l *leased) Close() {
	if !l.ran {
		l.lease.Release()
	}
}
