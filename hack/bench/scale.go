package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/sshserver"
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

// startGoals are what a start and the rest after it may cost.
type startGoals struct{ ready, cpu, residentMiB float64 }

// measureScale takes the operator's binary from the creation of a pool to rest, with
// 1,000 targets and with 8,000. Each target is a host of its own, on an address of its
// own.
func measureScale(ctx context.Context, s settings) ([]row, error) {
	rows, err := measureStart(ctx, s, of(s, 1000, 50), startGoals{ready: 4, cpu: 1, residentMiB: 80})
	if err != nil {
		return rows, err
	}
	more, err := measureStart(ctx, s, of(s, 8000, 100), startGoals{ready: 40, cpu: 5, residentMiB: 440})
	return append(rows, more...), err
}

// measureStart measures one start with so many targets.
func measureStart(ctx context.Context, s settings, count int, goals startGoals) ([]row, error) {
	crews, stop, err := startCrews(ctx, count)
	defer stop()
	if err != nil {
		return nil, err
	}
	bare, err := dialAll(ctx, crews)
	if err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if err := c.declare(ctx, s, crews, count); err != nil {
		return nil, errors.Join(err, c.operator.Err())
	}
	before, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	ready, err := c.warm(ctx, s, count)
	if err != nil {
		return nil, errors.Join(err, c.operator.Err())
	}
	name := sizeName(count)
	rows := []row{compared(name+"pool created to all Ready", ready.Seconds(), "s",
		fmt.Sprintf("bare dials, %d at once", dialsAtOnce), bare.Seconds()).atMost(goals.ready)}
	atRest, err := c.rest(ctx, s, name)
	if err != nil {
		return rows, err
	}
	after, err := c.writes(ctx)
	if err != nil {
		return rows, err
	}
	each := float64(after[otherWrites]-before[otherWrites]) / float64(count)
	return append(rows, figure(name+"API writes each, until they had settled", each, "").atMost(1.1),
		atRest[0], atRest[1].atMost(goals.cpu), atRest[2].atMost(goals.residentMiB)), nil
}

// rest measures what the operator costs when nothing happens.
func (c *cluster) rest(ctx context.Context, s settings, name string) ([]row, error) {
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
		figure(name+"CPU at rest, of one core", 100*(after.cpu-before.cpu).Seconds()/seconds, "%").atMost(5),
		figure(name+"resident memory of the operator", after.residentKiB/1024, "MiB"),
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

// declare creates the targets and returns when the operator has seen them.
func (c *cluster) declare(ctx context.Context, s settings, crews []crew, count int) error {
	s.say("create %d targets", count)
	for i, crew := range crews {
		objects, err := crew.objects(fmt.Sprintf("crew-%d", i), map[string]string{"bench": "scale"})
		if err != nil {
			return err
		}
		if err := c.create(ctx, objects); err != nil {
			return err
		}
	}
	return c.await(ctx, count, v1alpha1.ReasonNotSelected, metav1.ConditionFalse)
}

// warm creates a pool of the targets that the operator has seen. It returns how long it
// took until the last of them was ready.
func (c *cluster) warm(ctx context.Context, s settings, count int) (time.Duration, error) {
	s.say("create the pool")
	begin := time.Now()
	if err := c.client.Create(ctx, everything()); err != nil {
		return 0, fmt.Errorf("create the pool: %w", err)
	}
	err := c.await(ctx, count, "", metav1.ConditionTrue)
	return time.Since(begin), err
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

// everything is a pool of all targets, by the defaults.
func everything() *v1alpha1.ConnectionPool {
	return &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "everything"},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"bench": "scale"}}},
	}
}

// hosts are SSH servers on addresses of their own, which share their keys.
type hosts struct{ servers []*sshserver.Server }

func startHosts(count int) (*hosts, error) {
	first, err := startServer(sshserver.Options{})
	if err != nil {
		return nil, err
	}
	defer first.Close()
	key, err := newSigner()
	if err != nil {
		return nil, err
	}
	h := &hosts{}
	for i := range count {
		address := fmt.Sprintf("127.1.%d.%d:0", i/250, i%250+1)
		server, err := startServer(sshserver.Options{Address: address, HostKey: key, PrivateKey: first.PrivateKey})
		if err != nil {
			h.close()
			return nil, err
		}
		h.servers = append(h.servers, server)
	}
	return h, nil
}

// startServer starts a server whose every command succeeds without a process.
func startServer(options sshserver.Options) (*sshserver.Server, error) {
	options.Handler = func(context.Context, sshserver.Command) int { return 0 }
	return sshserver.Start(options)
}

func (h *hosts) close() {
	for _, server := range h.servers {
		server.Close()
	}
}

// dialAll is the comparator: the handshakes alone, as many at once as the
// operator does.
func dialAll(ctx context.Context, crews []crew) (time.Duration, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dialsAtOnce)
	begin := time.Now()
	for _, c := range crews {
		hostKey, err := ssh.ParsePublicKey(c.HostKey)
		if err != nil {
			return 0, errors.Join(err, group.Wait())
		}
		for _, address := range c.Addrs {
			group.Go(func() error {
				conn, err := dialBare(ctx, address, c.User, c.UserKey, hostKey)
				if err != nil {
					return err
				}
				return conn.Close()
			})
		}
	}
	err := group.Wait()
	return time.Since(begin), err
}

// objects are a target for each host, and the Secret that all share.
func (h *hosts) objects() []client.Object {
	objects := []client.Object{&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "shared",
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ssh-privatekey": h.servers[0].PrivateKey},
	}}
	for i, server := range h.servers {
		objects = append(objects, targetOf(fmt.Sprintf("host-%04d", i), server))
	}
	return objects
}

func splitAddress(address string) (host string, port int32) {
	host, text, _ := net.SplitHostPort(address)
	number, _ := strconv.ParseInt(text, 10, 32)
	return host, int32(number)
}

func targetOf(name string, server *sshserver.Server) *v1alpha1.ConnectionTarget {
	host, port := splitAddress(server.Addr)
	return &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"bench": "scale"}},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
			Host: host, Port: &port, User: "bench",
			CredentialsRef: v1alpha1.SecretRef{Name: "shared"},
			HostKeys: v1alpha1.HostKeys{KnownHosts: []string{
				strings.TrimSpace(string(ssh.MarshalAuthorizedKey(server.HostKey))),
			}},
		}},
	}
}
