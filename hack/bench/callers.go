package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

// freshParallelSSH makes a connection for each of its commands.
const freshParallelSSH = "parallel-ssh, fresh"

// measureCallers sends 200 commands at once through one pool to one sshd with its defaults,
// 20 times, beside a tool that sends as many by connections of its own.
func measureCallers(ctx context.Context, s settings) ([]row, error) {
	count := of(s, 200, 20)
	bed, err := newTestbed(ctx, "MaxSessions 10", "MaxStartups 10:30:100")
	if err != nil {
		return nil, err
	}
	defer bed.close()
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	both, err := c.open(ctx, endpoint{bed.server.Addr, bed.server.User, bed.server.PrivateKey, bed.server.HostKey}, 1)
	if err != nil {
		return nil, err
	}
	pool := &v1alpha1.ConnectionPool{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: livePool}}
	patch := fmt.Sprintf(`{"spec":{"size":{"max":20},"acquire":{"maxPending":%d}}}`, count)
	if err := c.client.Patch(ctx, pool, kube.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return nil, err
	}
	if _, err := c.settle(ctx, s); err != nil {
		return nil, err
	}
	s.say("%d commands at once", count)
	bare, closeBare, err := newBareCrew(ctx, bed)
	if err != nil {
		return nil, err
	}
	defer closeBare()
	ours := func(context.Context, int) error {
		_, err := both.direct.pool.Exec(ctx, client.Command{Argv: []string{"true"}})
		return err
	}
	first := atOnce(ctx, ours, count)
	var took, floor, whole []float64
	failed := first.failed
	for range of(s, 19, 2) {
		round := atOnce(ctx, ours, count)
		took, whole, failed = append(took, round.took...), append(whole, round.whole), failed+round.failed
		floor = append(floor, atOnce(ctx, bare, count).took...)
	}
	// As sshd has counted them, those that are gone again, too.
	connections := strings.Count(bed.server.Log(), "Accepted publickey") - bareConnections
	name := fmt.Sprintf("%d callers of one sshd: ", count)
	rows := []row{
		figure(name+"failures of 20 rounds", float64(failed), "").atMost(0),
		figure(name+"connections of all rounds", float64(connections), "").atMost(25),
		figure(name+"p99 of the first round, from 1 connection", percentile(first.took, 99), "ms"),
		compared(name+"p50 after that", percentile(took, 50), "ms", bareCrew, percentile(floor, 50)),
		compared(name+"p99 after that", percentile(took, 99), "ms", bareCrew, percentile(floor, 99)).atMost(200),
	}
	theirs, lost, err := freshAtOnce(ctx, bed, count)
	if err != nil {
		name += "until all have ended, beside " + freshParallelSSH + ", which is not installed"
		return append(rows, figure(name, median(whole), "ms")), nil
	}
	return append(rows,
		compared(name+"until all have ended", median(whole), "ms", fmt.Sprintf("%s (%d failed)", freshParallelSSH, lost), theirs)), nil
}

// round is what came of commands that were sent at once, in milliseconds.
type round struct {
	took   []float64
	whole  float64
	failed int
}

// atOnce sends commands at once; do gets the number of each.
func atOnce(ctx context.Context, do func(ctx context.Context, number int) error, count int) round {
	var r round
	var mu sync.Mutex
	var running sync.WaitGroup
	begin := time.Now()
	for number := range count {
		running.Go(func() {
			began := time.Now()
			err := do(ctx, number)
			mu.Lock()
			defer mu.Unlock()
			r.took = append(r.took, milliseconds(time.Since(began)))
			if err != nil {
				r.failed++
			}
		})
	}
	running.Wait()
	r.whole = milliseconds(time.Since(begin))
	return r
}

const (
	bareCrew        = "x/crypto, 20 connections"
	bareConnections = 20
)

// newBareCrew returns what runs a command on one of 20 warm connections of the library alone,
// each of which has 10 sessions, as many as the server allows: no program is done sooner.
func newBareCrew(ctx context.Context, bed *testbed) (do func(context.Context, int) error, stop func(), err error) {
	var conns []*ssh.Client
	stop = func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	for range bareConnections {
		conn, err := dialBare(ctx, bed.server.Addr, bed.server.User, bed.server.PrivateKey, bed.server.HostKey)
		if err != nil {
			stop()
			return nil, nil, err
		}
		conns = append(conns, conn)
	}
	return func(_ context.Context, number int) error { return runBare(conns[number%len(conns)], "true") }, stop, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// freshAtOnce is what parallel-ssh takes for as many commands, and how many of them failed.
func freshAtOnce(ctx context.Context, bed *testbed, count int) (took float64, failed int, err error) {
	program, err := exec.LookPath("parallel-ssh")
	if err != nil {
		return 0, 0, err
	}
	files, err := newMasters(bed.server, count)
	defer files.close(context.WithoutCancel(ctx))
	if err != nil {
		return 0, 0, err
	}
	options := "-F " + filepath.Join(files.dir, "config") + " -o ControlMaster=no -o ControlPath=none"
	begin := time.Now()
	// It fails if one of the commands does, and says so for each.
	output, _ := exec.CommandContext(ctx, program,
		"-h", filepath.Join(files.dir, "hosts"), "-p", strconv.Itoa(count), "-t", "0", "-x", options, "true").CombinedOutput()
	return milliseconds(time.Since(begin)), strings.Count(string(output), "[FAILURE]"), nil
}
