package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

const (
	namespace = "default"
	// dialsAtOnce is how many handshakes the operator and the comparator make at
	// the same time.
	dialsAtOnce = 30
	// settled is how long nothing but the leader's Lease is written until the
	// operator counts as settled, and patience bounds the wait for it.
	settled  = 45 * time.Second
	patience = 4 * time.Minute
)

// measureScale takes the operator's binary from the creation of a pool to rest: each target
// is a host of its own, on an address of its own, served by other processes. The memory
// limit is that of the Deployment for 1,000, and a container's of 1 GiB for 8,000: by less,
// the operator lets one namespace have fewer connections.
func measureScale(ctx context.Context, s settings) ([]row, error) {
	var rows []row
	for _, goals := range of(s, []scaleGoals{
		{1000, "460MiB", 4, 1, 80}, {8000, "920MiB", 40, 5, 440},
	}, []scaleGoals{{targets: 50, memory: "460MiB"}}) {
		more, err := goals.measure(ctx, s)
		if rows = append(rows, more...); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// scaleGoals are those of one operator with so many targets.
type scaleGoals struct {
	targets int
	// memory is the GOMEMLIMIT of the operator.
	memory               string
	seconds, percent, mb float64
}

func (g scaleGoals) measure(ctx context.Context, s settings) ([]row, error) {
	crews, stop, err := startCrews(ctx, g.targets)
	defer stop()
	if err != nil {
		return nil, err
	}
	bare, err := dialAll(ctx, crews)
	if err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, s.say, "GOMEMLIMIT="+g.memory)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	ready, writes, err := c.warm(ctx, s, crews)
	if err != nil {
		return nil, errors.Join(err, c.operator.Err())
	}
	name := sizeName(g.targets)
	rows := []row{
		compared(name+"pool created to all Ready", ready.Seconds(), "s",
			fmt.Sprintf("bare dials, %d at once", dialsAtOnce), bare.Seconds()).atMost(g.seconds),
		figure(name+"API writes for each, until all were Ready", writes/float64(g.targets), "").atMost(1.1),
	}
	atRest, err := c.rest(ctx, s, name, g)
	if rows = append(rows, atRest...); err != nil {
		return rows, err
	}
	again, err := c.restart(ctx, s, name, g.targets)
	return append(rows, again...), errors.Join(err, c.operator.Err())
}

// rest measures what the operator costs when nothing happens.
func (c *cluster) rest(ctx context.Context, s settings, name string, goals scaleGoals) ([]row, error) {
	took, err := c.settle(ctx, s)
	if err != nil {
		return nil, err
	}
	s.say("settled after %s; now watch it for a minute", took.Round(time.Second))
	span := of(s, time.Minute, 5*time.Second)
	before, err := c.sample(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, span); err != nil {
		return nil, err
	}
	after, err := c.sample(ctx)
	if err != nil {
		return nil, err
	}
	leases := after.writes[leaseWrites] - before.writes[leaseWrites]
	others := after.writes[otherWrites] - before.writes[otherWrites]
	s.say("%d renewals of the Lease and %d other writes in %s", leases, others, span)
	seconds := span.Seconds()
	return []row{
		figure(name+"API writes per 10 s at rest", float64(leases+others)*10/seconds, "").atMost(1),
		figure(name+"CPU at rest, of one core", 100*(after.cpu-before.cpu).Seconds()/seconds, "%").atMost(goals.percent),
		figure(name+"resident memory of the operator", after.residentKiB/1024, "MiB").atMost(goals.mb),
	}, nil
}

// sample is what the operator has used so far.
type sample struct {
	writes      map[string]int
	cpu         time.Duration
	residentKiB float64
}

func (c *cluster) sample(ctx context.Context) (s sample, err error) {
	if s.writes, err = c.writes(ctx); err != nil {
		return s, err
	}
	if s.residentKiB, err = residentKiB(c.operator.Pid()); err != nil {
		return s, err
	}
	s.cpu, err = cpuTime(c.operator.Pid())
	return s, err
}

// settle waits until only the Lease is written and returns when the last other
// write was.
func (c *cluster) settle(ctx context.Context, s settings) (time.Duration, error) {
	begin := time.Now()
	last, count := begin, -1
	for calm := of(s, settled, 5*time.Second); time.Since(last) < calm && time.Since(begin) < patience; {
		writes, err := c.writes(ctx)
		if err != nil {
			return 0, err
		}
		if writes[otherWrites] != count {
			last, count = time.Now(), writes[otherWrites]
			s.say("%d API writes so far", count)
		}
		if err := pause(ctx, 3*time.Second); err != nil {
			return 0, err
		}
	}
	return last.Sub(begin), nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// warm creates the targets and, when the operator has seen them, a pool. It returns how
// long it took from then until the last target was ready, and the API writes meanwhile.
func (c *cluster) warm(ctx context.Context, s settings, crews []crew) (took time.Duration, writes float64, err error) {
	count := 0
	for i, of := range crews {
		objects, err := of.objects(fmt.Sprintf("crew-%d", i), scaleLabels)
		if err != nil {
			return 0, 0, err
		}
		s.say("create %d targets", len(of.Addrs))
		if err := c.create(ctx, objects); err != nil {
			return 0, 0, err
		}
		count += len(of.Addrs)
	}
	if err := c.await(ctx, count, v1alpha1.ReasonNotSelected, metav1.ConditionFalse); err != nil {
		return 0, 0, err
	}
	before, err := c.writes(ctx)
	if err != nil {
		return 0, 0, err
	}
	s.say("create the pool")
	begin := time.Now()
	if err := c.client.Create(ctx, everything()); err != nil {
		return 0, 0, fmt.Errorf("create the pool: %w", err)
	}
	if err := c.await(ctx, count, "", metav1.ConditionTrue); err != nil {
		return 0, 0, err
	}
	took = time.Since(begin)
	after, err := c.writes(ctx)
	return took, float64(after[otherWrites] - before[otherWrites]), err
}

// create creates objects, several at a time.
func (c *cluster) create(ctx context.Context, objects []client.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, object := range objects {
		group.Go(func() error { return c.client.Create(ctx, object) })
	}
	return group.Wait()
}

// await waits until the Ready condition of this many targets has the status, and
// the reason unless that is empty.
func (c *cluster) await(ctx context.Context, count int, reason string, status metav1.ConditionStatus) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	reached := map[string]bool{}
	for len(reached) < count {
		if err := errors.Join(ctx.Err(), c.operator.Err()); err != nil {
			return fmt.Errorf("%d of %d targets have Ready %s %s: %w", len(reached), count, status, reason, err)
		}
		if err := c.follow(ctx, reached, count, reason, status); err != nil {
			return err
		}
	}
	return nil
}

// follow notes which targets have reached the condition, until enough have or the
// watch ends: the API server ends watches that fall behind. The next watch begins
// with the present state.
func (c *cluster) follow(ctx context.Context, reached map[string]bool, count int, reason string, status metav1.ConditionStatus) error {
	events, err := c.client.Watch(ctx, &v1alpha1.ConnectionTargetList{}, client.InNamespace(namespace))
	if err != nil {
		return fmt.Errorf("watch the targets: %w", err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		note(reached, event, reason, status)
		if len(reached) == count {
			break
		}
	}
	return nil
}

func note(reached map[string]bool, event watch.Event, reason string, status metav1.ConditionStatus) {
	target, ok := event.Object.(*v1alpha1.ConnectionTarget)
	if !ok {
		return
	}
	ready := meta.FindStatusCondition(target.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != status || (reason != "" && ready.Reason != reason) {
		delete(reached, target.Name)
		return
	}
	reached[target.Name] = true
}

// scaleLabels are those of all targets.
var scaleLabels = map[string]string{"bench": "scale"}

// everything is a pool of all targets, by the defaults.
func everything() *v1alpha1.ConnectionPool {
	return &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "everything"},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: scaleLabels}},
	}
}
