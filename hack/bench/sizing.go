package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/test/sshserver"
)

// measureSizing measures what one operator needs as its targets become more: its
// resident memory, its descriptors, its processor time and its API writes. It runs
// with the memory limit of the Deployment, or the one of -memory-limit.
func measureSizing(ctx context.Context, s settings) ([]row, error) {
	c, err := startCluster(ctx, s.say, "GOMEMLIMIT="+s.memoryLimit)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if _, err := c.settle(ctx, s); err != nil {
		return nil, err
	}
	rows, err := c.footprint(sizeName(0))
	if err != nil {
		return nil, err
	}
	byLoad, err := c.underLoad(ctx, s)
	if err != nil {
		return nil, errors.Join(err, c.operator.Err())
	}
	byTargets, err := c.grow(ctx, s)
	return append(append(rows, byLoad...), byTargets...), errors.Join(err, c.operator.Err())
}

func sizeName(targets int) string { return fmt.Sprintf("%d targets: ", targets) }

// footprint is what the operator holds now, and the most that it has held.
func (c *cluster) footprint(name string) ([]row, error) {
	resident, err := residentKiB(c.operator.Pid())
	if err != nil {
		return nil, err
	}
	peak, err := peakKiB(c.operator.Pid())
	if err != nil {
		return nil, err
	}
	files, err := descriptors(c.operator.Pid())
	return []row{
		figure(name+"resident memory", resident/1024, "MiB"),
		figure(name+"resident memory at its highest so far", peak/1024, "MiB"),
		figure(name+"descriptors", float64(files), ""),
	}, err
}

// underLoad measures the processor time of commands at a steady pace.
func (c *cluster) underLoad(ctx context.Context, s settings) ([]row, error) {
	server, err := sshserver.Start(sshserver.Options{Handler: echo})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	to := endpoint{server.Addr, "bench", server.PrivateKey, server.HostKey}
	both, err := c.open(ctx, to, 16)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, rate := range []int{50, 200} {
		before, begin := c.cpu(), time.Now()
		_, err := sustain(ctx, s, both.direct, rate)
		if err != nil {
			return nil, err
		}
		spent := (c.cpu() - before).Seconds() / time.Since(begin).Seconds()
		rows = append(rows, figure(fmt.Sprintf("%d commands a second: CPU, of one core", rate), 100*spent, "%"))
	}
	held, err := c.footprint("after the commands: ")
	return append(rows, held...), errors.Join(err, c.remove(ctx, poolTo(to, 16)))
}

// remove deletes objects, the last one first.
func (c *cluster) remove(ctx context.Context, objects []client.Object) error {
	for _, object := range slices.Backward(objects) {
		if err := c.client.Delete(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

// cpu is the operator's processor time, or 0 once it is gone, which its Err reports.
func (c *cluster) cpu() time.Duration {
	used, _ := cpuTime(c.operator.Pid())
	return used
}

// grow adds targets to one pool in steps, and measures when each has settled.
func (c *cluster) grow(ctx context.Context, s settings) ([]row, error) {
	crews, stop, err := startCrews(ctx, of(s, serversEach, 50))
	defer stop()
	if err != nil {
		return nil, err
	}
	if err := c.client.Create(ctx, everything()); err != nil {
		return nil, fmt.Errorf("create the pool: %w", err)
	}
	objects, err := crews[0].objects("host", scaleLabels)
	if err != nil {
		return nil, err
	}
	if err := c.create(ctx, objects[:1]); err != nil { // the Secret of all
		return nil, err
	}
	var rows []row
	done := 0
	for _, count := range of(s, []int{100, 1000, 4000}, []int{10, 50}) {
		writes, err := c.writes(ctx)
		if err != nil {
			return rows, err
		}
		s.say("have %d targets", count)
		begin := time.Now()
		if err := c.create(ctx, objects[1+done:1+count]); err != nil {
			return rows, err
		}
		if err := c.await(ctx, count, "", metav1.ConditionTrue); err != nil {
			return rows, err
		}
		ready := time.Since(begin)
		more, err := c.size(ctx, s, sizeName(count), count-done, writes[otherWrites])
		rows = append(rows, figure(sizeName(count)+"until all were Ready, with their creation", ready.Seconds(), "s"))
		if rows = append(rows, more...); err != nil {
			return rows, err
		}
		done = count
	}
	return rows, nil
}

// size measures the operator once it has settled after targets were added.
func (c *cluster) size(ctx context.Context, s settings, name string, added, writesBefore int) ([]row, error) {
	atRest, err := c.rest(ctx, s, name, scaleGoals{percent: 100, mb: 1024})
	if err != nil {
		return nil, err
	}
	writes, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	held, err := c.footprint(name)
	each := float64(writes[otherWrites]-writesBefore) / float64(added)
	return append(append(held, figure(name+"API writes for each that was added", each, "")), atRest[:2]...), err
}
