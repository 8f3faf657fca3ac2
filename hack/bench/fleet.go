package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

const (
	runAll = "true on all"
	// goClient is its Pool.Run, through kube-apiserver.
	goClient = "the Go client"
	// wholePlugin is kubectl connpool run --all, the whole process, through kube-apiserver.
	wholePlugin = "the plugin"
)

// measureFleet measures one command on 1,000 warm hosts, whose servers run it without a
// process of their own.
func measureFleet(ctx context.Context, s settings) ([]row, error) {
	took, _, err := onServers(ctx, s, of(s, 1000, 50), 20*time.Second)
	if err != nil {
		return nil, err
	}
	return fleetRows(took, of(s, 1000, 50), 1), nil
}

// measureLargeFleet measures it on 8,000, and what it takes of the operator's memory.
func measureLargeFleet(ctx context.Context, s settings) ([]row, error) {
	count := of(s, 8000, 100)
	took, grown, err := onServers(ctx, s, count, 30*time.Second)
	if err != nil {
		return nil, err
	}
	memory := figure(fmt.Sprintf("%s of %d warm hosts: more memory of the operator, at its highest", runAll, count), grown, "MiB")
	return append(fleetRows(took, count, 12), memory.atMost(100)), nil
}

// fleetRows are rows of the contenders that have no comparator, with a goal in seconds.
func fleetRows(took map[string][]float64, count int, goal float64) []row {
	var rows []row
	for _, by := range []string{wholePlugin, goClient} {
		name := fmt.Sprintf("%s of %d warm hosts, by %s, p50", runAll, count, by)
		rows = append(rows, figure(name, median(took[by])/1e3, "s").atMost(goal))
	}
	return rows
}

// onServers measures the command on in-process servers. It returns how long each run
// took, and by how many MiB the operator grew.
func onServers(ctx context.Context, s settings, count int, span time.Duration) (map[string][]float64, float64, error) {
	crews, stop, err := startCrews(ctx, count)
	defer stop()
	if err != nil {
		return nil, 0, err
	}
	f, err := startFleet(ctx, s, crews)
	if err != nil {
		return nil, 0, err
	}
	defer f.cluster.stop()
	before, err := f.restartPeak()
	if err != nil {
		return nil, 0, err
	}
	s.say("%s of %d hosts", runAll, count)
	took, err := race(ctx, of(s, span, time.Second), f.contenders...)
	if err != nil {
		return nil, 0, err
	}
	after, err := peakKiB(f.cluster.operator.Pid())
	return took, (after - before) / 1024, err
}

// fleet is an operator with a pool of hosts, all of them warm, and ways to run a command
// on them.
type fleet struct {
	cluster    *cluster
	contenders []contender
}

func startFleet(ctx context.Context, s settings, crews []crew) (*fleet, error) {
	program, err := buildProgram(ctx, "kubectl-connpool")
	if err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	f := &fleet{cluster: c}
	if err := f.warm(ctx, s, crews); err != nil {
		c.stop()
		return nil, errors.Join(err, c.operator.Err())
	}
	kubeconfig, err := f.kubeconfig()
	if err != nil {
		c.stop()
		return nil, err
	}
	user, err := newUser(c.plane.Config)
	if err != nil {
		c.stop()
		return nil, err
	}
	f.contenders = []contender{
		{goClient, func(ctx context.Context) error { return runOnAll(ctx, user.pool) }, 1},
		{wholePlugin, func(ctx context.Context) error {
			return exec.CommandContext(ctx, program,
				"--kubeconfig="+kubeconfig, "--direct=never", "run", livePool, "--all", "--", "true").Run()
		}, 1},
	}
	return f, nil
}

// runOnAll fails unless the command ends with 0 on every host.
func runOnAll(ctx context.Context, pool *client.Pool) error {
	var failed error
	err := pool.Run(ctx, client.Command{Argv: []string{"true"}}, client.Targets{All: true}, func(r client.TargetResult) {
		failed = cmp.Or(failed, r.Err)
	})
	return cmp.Or(err, failed)
}

func (f *fleet) kubeconfig() (string, error) {
	path := filepath.Join(f.cluster.plane.Dir, "admin.kubeconfig")
	text, err := f.cluster.plane.Kubeconfig()
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, text, 0o600)
}

// warm makes the pool and returns when all its targets are ready.
func (f *fleet) warm(ctx context.Context, s settings, crews []crew) error {
	label := map[string]string{"bench": "fleet"}
	objects := []kube.Object{&v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: livePool},
		Spec:       v1alpha1.ConnectionPoolSpec{TargetSelector: &metav1.LabelSelector{MatchLabels: label}},
	}}
	count := 0
	for i, c := range crews {
		more, err := c.objects(fmt.Sprintf("crew-%d", i), label)
		if err != nil {
			return err
		}
		objects, count = append(objects, more...), count+len(c.Addrs)
	}
	s.say("warm %d hosts", count)
	if err := f.cluster.create(ctx, objects); err != nil {
		return err
	}
	if err := f.cluster.await(ctx, count, "", metav1.ConditionTrue); err != nil {
		return err
	}
	_, err := f.cluster.settle(ctx, s)
	return err
}

// restartPeak lets the operator's highest resident memory begin anew, and returns what it
// is now, in KiB.
func (f *fleet) restartPeak() (float64, error) {
	pid := f.cluster.operator.Pid()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	return residentKiB(pid)
}

// measureFleetOnSSHD compares one command on 200 hosts, all of them one real sshd, with the
// tools that people use for that. These have warm masters.
func measureFleetOnSSHD(ctx context.Context, s settings) ([]row, error) {
	count := of(s, 200, 10)
	bed, err := newTestbed(ctx, "MaxStartups 1000")
	if err != nil {
		return nil, err
	}
	defer bed.close()
	masters, err := startMasters(ctx, s, bed.server, count)
	defer masters.close(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	f, err := startFleet(ctx, s, []crew{{
		User: bed.server.User, UserKey: bed.server.PrivateKey, HostKey: bed.server.HostKey.Marshal(),
		Addrs: slices.Repeat([]string{bed.server.Addr}, count),
	}})
	if err != nil {
		return nil, err
	}
	defer f.cluster.stop()
	tools := masters.tools()
	s.say("race %s and %d tools with %d hosts", runAll, len(tools), count)
	took, err := race(ctx, of(s, time.Minute, time.Second), append(f.contenders, tools...)...)
	if err != nil {
		return nil, err
	}
	name, mine := fmt.Sprintf("%s of %d hosts on one sshd, by %s, p50", runAll, count, wholePlugin), median(took[wholePlugin])
	var rows []row
	for _, beside := range []struct {
		tool string
		goal func(row) row
	}{{clush, atMostRatio(0.8)}, {parallelSSH, noGoal}, {ansibleRaw, atMostRatio(0.15)}} {
		if took[beside.tool] == nil {
			rows = append(rows, figure(name+", beside "+beside.tool+", which is not installed", mine, "ms"))
			continue
		}
		rows = append(rows, beside.goal(compared(name, mine, "ms", beside.tool, median(took[beside.tool]))))
	}
	return rows, nil
}
