// Package operator is the operator as a whole: it makes the controllers, the live
// API and the pools, joins them in one manager, and runs and drains them.
//
//	var options operator.Options
//	options.Register(flags)
//	err := options.Validate()
//	err = operator.Run(ctx, options, drivers) // until ctx ends
//
// It knows every other package but the drivers: the caller chooses the protocols
// and passes them in. A test that needs the pools of a running operator calls New
// and then the operator's own Run.
//
// When ctx ends the operator drains: the manager gives the Lease back at once, so
// that another replica can lead, while uses that were accepted go on for up to
// DrainTimeout.
//
// Trade-offs: this is the one package that imports nearly all others, so that none
// of those has to know how the whole fits together.
package operator

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/connectionpool"
	"github.com/connpool/connpool/internal/controller/connectiontarget"
	"github.com/connpool/connpool/internal/controller/ownership"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/internal/dialbudget"
	connpoolmetrics "github.com/connpool/connpool/internal/metrics"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/tracing"
	"github.com/connpool/connpool/internal/watched"
)

// How many dials may run at once, for all pools together: enough that a restart is
// quick, and few enough that no sshd throttles the operator.
const (
	dialsPerProcess  = 30
	dialsPerHost     = 3
	dialsPerJumpHost = 6
)

// gcPercent is the headroom of the garbage collector, unless GOGC says
// otherwise. Idle connections are most of the heap and make little garbage, so
// Go's default of 100 would keep about 20 KiB more for each of them resident.
const gcPercent = 50

// auditLogger is the name of the logger of all audit lines.
const auditLogger = "audit"

// Operator is an operator that can be run once.
type Operator struct {
	options Options
	manager manager.Manager
	pools   *poolset.Set
	// namespaces are those that it watches.
	namespaces *watched.Namespaces
	live       *liveAPI        // nil when it is turned off
	tracer     *tracing.Tracer // nil when it is turned off
	collector  *connpoolmetrics.Collector
	ledger     *ownership.Ledger
}

// Run makes an operator for the cluster that the options name, and runs it until
// ctx ends and it has drained.
func Run(ctx context.Context, o Options, drivers connectiontarget.Drivers) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cluster, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("find the cluster: %w; name a kubeconfig with --kubeconfig, or run in a pod", err)
	}
	op, err := New(ctx, cluster, o, drivers)
	if err != nil {
		return err
	}
	return op.Run(ctx)
}

// New makes an operator for the cluster. It listens on the address of the live API,
// and follows kube-apiserver's authorities until ctx ends. A process can have one
// operator, because its metrics are registered with controller-runtime's registry.
func New(ctx context.Context, cluster *rest.Config, o Options, drivers connectiontarget.Drivers) (*Operator, error) {
	cluster = rest.CopyConfig(cluster)
	// The client needs no limit: the server has priority and fairness, and status.Pace
	// limits the writes.
	cluster.QPS, cluster.Burst = -1, -1
	certificate, err := o.Live.certificate(ctx, cluster)
	if err != nil {
		return nil, err
	}
	namespaces, err := watched.New(cluster, o.WatchNamespaces)
	if err != nil {
		return nil, err
	}
	namespaces.Review(ctx)
	mgr, err := o.newManager(cluster, certificate, namespaces)
	if err != nil {
		return nil, err
	}
	o.Audit = o.Audit.or(mgr.GetLogger())
	op := &Operator{
		options:    o,
		manager:    mgr,
		namespaces: namespaces,
		pools:      poolset.New(o.policy().Dial, dialbudget.New(dialsPerProcess, dialsPerHost, dialsPerJumpHost)),
	}
	op.pools.LimitConnections(o.MaxConnections)
	mgr.GetLogger().WithName("memory").Info("What may be held at the same time follows from the memory limit and the flags", o.held()...)
	op.collector = connpoolmetrics.NewCollector(op.pools)
	op.pools.Measure(op.collector)
	op.ledger = &ownership.Ledger{Client: mgr.GetClient()}
	if err := mgr.Add(op.ledger); err != nil {
		return nil, err
	}
	if err := mgr.Add(namespaces); err != nil {
		return nil, err
	}
	if err := op.addControllers(ctx, drivers); err != nil {
		return nil, err
	}
	if op.tracer, err = tracing.New(ctx, tracing.Options{
		Version: o.Version, Replica: o.Replica, Log: mgr.GetLogger().WithName("tracing"),
	}); err != nil {
		return nil, err
	}
	if err := op.addLiveAPI(ctx, certificate); err != nil {
		return nil, err
	}
	collectors := append(connpoolmetrics.Process(o.Version, mgr.Elected(), certificate, o.Audit.Dropped),
		op.collector, connpoolmetrics.Unowned(op.ledger.Unowned))
	for _, collector := range collectors {
		if err := metrics.Registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register the metrics: %w", err)
		}
	}
	return op, nil
}

// Pools returns the live pools of this operator.
func (op *Operator) Pools() *poolset.Set { return op.pools }

// Run runs the operator until ctx ends, then drains it. What still runs after the
// drain timeout is cut.
func (op *Operator) Run(ctx context.Context) error {
	go giveBack(ctx)
	err := op.manager.Start(ctx)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), op.options.DrainTimeout)
	defer cancel()
	op.live.finish(ctx)
	op.pools.Close(ctx)
	op.tracer.Close(ctx)
	if err != nil {
		return fmt.Errorf("run the manager: %w", err)
	}
	return nil
}

func (op *Operator) addControllers(ctx context.Context, drivers connectiontarget.Drivers) error {
	client, budget, recorder := op.manager.GetClient(), status.NewBudget(), op.manager.GetEventRecorder("connpool")
	targets := &connectiontarget.Reconciler{
		Client:  client,
		Reader:  op.manager.GetAPIReader(),
		Pools:   op.pools,
		Drivers: drivers,
		Replica: op.options.Replica,
		Audit:   op.options.Audit.Logger,
		Ledger:  op.ledger,
		Writer:  connectiontarget.NewWriter(client, status.Sparing(recorder), status.NewPace[v1alpha1.ConnectionTargetStatus](budget)),
	}
	if err := targets.SetupWithManager(ctx, op.manager); err != nil {
		return fmt.Errorf("set up the connectiontarget controller: %w", err)
	}
	pools := &connectionpool.Reconciler{
		Client:  client,
		Writer:  connectionpool.NewWriter(client, recorder, status.NewPace[v1alpha1.ConnectionPoolStatus](budget)),
		Metrics: op.collector.Conditions,
	}
	if err := pools.SetupWithManager(ctx, op.manager); err != nil {
		return fmt.Errorf("set up the connectionpool controller: %w", err)
	}
	return nil
}
