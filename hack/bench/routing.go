package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/drivertest"
	"github.com/connpool/connpool/internal/poolset"
)

// measureRouting compares a lease of the least loaded target of a large pool with a lease
// of a target by name. The connections are fakes.
func measureRouting(ctx context.Context, s settings) ([]row, error) {
	targets := of(s, 10_000, 100)
	s.say("acquire and release in a pool of %d targets", targets)
	set, uids, err := largePool(ctx, targets)
	if err != nil {
		return nil, err
	}
	defer set.Close(ctx)
	acquire := func(ctx context.Context, target string) error {
		lease, err := set.Acquire(ctx, poolset.Request{Pool: "pool", Target: target})
		if err == nil {
			set.Return(lease, nil)
		}
		return err
	}
	turn := 0
	byName := func(ctx context.Context) error {
		turn = (turn + 1) % targets
		return acquire(ctx, uids[turn])
	}
	leastLoaded := func(ctx context.Context) error { return acquire(ctx, "") }
	var routed, named, allocations []float64
	for range of(s, 5, 1) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		result := benchmark(ctx, 1, leastLoaded)
		routed = append(routed, nanoseconds(result))
		allocations = append(allocations, float64(result.AllocsPerOp()))
		named = append(named, nanoseconds(benchmark(ctx, 1, byName)))
	}
	name := fmt.Sprintf("acquire+release, least loaded of %d targets", targets)
	return []row{
		compared(name, median(routed), "ns", "by name", median(named)).atMost(2000),
		figure(name+": allocations", slices.Max(allocations), "").atMost(0),
	}, nil
}

// largePool makes a pool with a warm connection to each of so many targets, and returns
// the UIDs of the targets.
func largePool(ctx context.Context, targets int) (*poolset.Set, []string, error) {
	nowhere := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		return near, far.Close()
	}
	set := poolset.New(nowhere, dialbudget.New(100, 100, 100))
	fake := new(drivertest.Fake)
	uids := make([]string, targets)
	for i := range uids {
		uids[i] = strconv.Itoa(i)
		if err := ensure(set, idleTarget(fake, uids[i])); err != nil {
			return nil, nil, err
		}
	}
	for _, uid := range uids {
		lease, err := set.Acquire(ctx, poolset.Request{Pool: "pool", Target: uid})
		if err != nil {
			set.Close(ctx)
			return nil, nil, fmt.Errorf("warm target %s: %w", uid, err)
		}
		set.Return(lease, nil)
	}
	return set, uids, nil
}

func idleTarget(fake *drivertest.Fake, uid string) poolset.Target {
	return poolset.Target{
		Ref: poolset.Ref{UID: uid, Namespace: "default", Name: "target-" + uid}, Type: "fake",
		Access: poolset.Access{
			Driver: fake, Identity: uid, Version: "v1",
			Endpoint: driver.Endpoint{Address: "host-" + uid + ":22"},
		},
		Pools: []poolset.Pool{{
			Ref: poolset.Ref{UID: "pool", Namespace: "default", Name: "pool"},
			Policy: poolset.Policy{
				Limits: connpool.Limits{MinWarm: 1, Max: 4, LeasesPerConn: 8, MaxPending: 100, AcquireTimeout: time.Minute},
			},
		}},
	}
}
