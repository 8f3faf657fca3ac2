package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/jackc/puddle/v2"

	"github.com/connpool/connpool/internal/connpool"
)

// use takes a connection out of a pool and gives it back.
type use func(context.Context) error

// load is how a pool is used: the number of callers, and the connections that
// they share, with the slots of each.
type load struct {
	name                  string
	callers, conns, slots int
}

// measureEngine compares Acquire and Release with puddle, the pool under pgx, at
// equal capacity: puddle gets as many resources as the engine has slots.
func measureEngine(ctx context.Context, s settings) ([]row, error) {
	if err := flag.Set("test.benchtime", of(s, "300ms", "20ms")); err != nil {
		return nil, err
	}
	loads := []load{
		{"1 caller", 1, 8, 8},
		{"64 callers, 64 slots", 64, 8, 8},
		{"64 callers, 8 slots", 64, 8, 1},
	}
	var rows []row
	for _, l := range loads {
		s.say("acquire and release, %s", l.name)
		compared, err := l.compare(ctx, of(s, 9, 1))
		if err != nil {
			return nil, err
		}
		rows = append(rows, compared...)
	}
	return rows, nil
}

// compare runs both pools in turn and compares the medians.
func (l load) compare(ctx context.Context, rounds int) ([]row, error) {
	ours, closeOurs, err := newEngine(ctx, l)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	theirs, closeTheirs, err := newPuddle(ctx, l.conns*l.slots)
	if err != nil {
		return nil, err
	}
	defer closeTheirs()
	var mine, puddles, allocations []float64
	for range rounds {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		result := benchmark(ctx, l.callers, ours)
		mine = append(mine, nanoseconds(result))
		allocations = append(allocations, float64(result.AllocsPerOp()))
		puddles = append(puddles, nanoseconds(benchmark(ctx, l.callers, theirs)))
	}
	name := "acquire+release, " + l.name
	rows := []row{compared(name, median(mine), "ns", "puddle v2", median(puddles)).ratioAtMost(1)}
	if l.callers <= l.conns*l.slots {
		rows = append(rows, figure(name+": allocations", slices.Max(allocations), "").atMost(0))
	}
	return rows, nil
}

func nanoseconds(result testing.BenchmarkResult) float64 {
	return float64(result.T.Nanoseconds()) / float64(result.N)
}

// benchmark shares the uses among the callers.
func benchmark(ctx context.Context, callers int, use use) testing.BenchmarkResult {
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		if callers == 1 {
			for b.Loop() {
				_ = use(ctx)
			}
			return
		}
		b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = use(ctx)
			}
		})
	})
}

// idleConn is a connection that does nothing.
type idleConn struct{ ctx context.Context } //nolint:containedctx // what a connection is, see connpool.Conn

func (c *idleConn) Context() context.Context { return c.ctx }
func (c *idleConn) Close() error             { return nil }

// newEngine makes a pool of the engine with all its connections warm.
func newEngine(ctx context.Context, l load) (use, func(), error) {
	pool := connpool.New(connpool.Options[*idleConn]{
		Dial:   func(context.Context) (*idleConn, error) { return &idleConn{context.Background()}, nil },
		Limits: connpool.Limits{Max: l.conns, LeasesPerConn: l.slots, MaxPending: l.callers},
	})
	closePool := func() { _ = pool.Close() }
	warm := make([]*connpool.Lease[*idleConn], l.conns*l.slots)
	for i := range warm {
		var err error
		if warm[i], err = pool.Acquire(ctx); err != nil {
			closePool()
			return nil, nil, fmt.Errorf("warm the engine: %w", err)
		}
	}
	for _, lease := range warm {
		lease.Release()
	}
	return func(ctx context.Context) error {
		lease, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		lease.Release()
		return nil
	}, closePool, nil
}

// newPuddle makes a pool of puddle with all its resources made.
func newPuddle(ctx context.Context, size int) (use, func(), error) {
	pool, err := puddle.NewPool(&puddle.Config[*idleConn]{
		Constructor: func(context.Context) (*idleConn, error) { return &idleConn{context.Background()}, nil },
		Destructor:  func(*idleConn) {},
		MaxSize:     int32(size),
	})
	if err != nil {
		return nil, nil, err
	}
	for range size {
		if err := pool.CreateResource(ctx); err != nil {
			pool.Close()
			return nil, nil, fmt.Errorf("warm puddle: %w", err)
		}
	}
	return func(ctx context.Context) error {
		resource, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		resource.Release()
		return nil
	}, pool.Close, nil
}
