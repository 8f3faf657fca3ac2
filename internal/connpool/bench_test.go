package connpool

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/puddle/v2"
)

// benchConn is a connection that does nothing.
type benchConn struct{ ctx context.Context }

func (c *benchConn) Context() context.Context { return c.ctx }
func (c *benchConn) Close() error             { return nil }

// BenchmarkAcquireRelease compares Acquire and Release with puddle at equal
// capacity: 64 slots and 64 callers, or one; and 8 slots for 64 callers.
func BenchmarkAcquireRelease(b *testing.B) {
	for _, size := range []struct{ conns, leases int }{{8, 8}, {64, 1}, {8, 1}} {
		for _, callers := range []int{1, 64} {
			name := fmt.Sprintf("conns=%d/leases=%d/callers=%d", size.conns, size.leases, callers)
			b.Run(name+"/pool=connpool", func(b *testing.B) { benchConnpool(b, size.conns, size.leases, callers) })
			b.Run(name+"/pool=puddle", func(b *testing.B) { benchPuddle(b, size.conns*size.leases, callers) })
		}
	}
}

func benchConnpool(b *testing.B, conns, leases, callers int) {
	p := New(Options[*benchConn]{
		Dial:   func(context.Context) (*benchConn, error) { return &benchConn{context.Background()}, nil },
		Limits: Limits{Max: conns, LeasesPerConn: leases, MaxPending: callers},
	})
	defer func() { _ = p.Close() }()
	warm := make([]*Lease[*benchConn], 0, conns*leases)
	for range conns * leases {
		l, err := p.Acquire(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		warm = append(warm, l)
	}
	for _, l := range warm {
		l.Release()
	}
	run(b, callers, func(ctx context.Context) error {
		l, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		l.Release()
		return nil
	})
}

func benchPuddle(b *testing.B, size, callers int) {
	p, err := puddle.NewPool(&puddle.Config[*benchConn]{
		Constructor: func(context.Context) (*benchConn, error) { return &benchConn{context.Background()}, nil },
		Destructor:  func(*benchConn) {},
		MaxSize:     int32(size),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for range size {
		if err := p.CreateResource(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	run(b, callers, func(ctx context.Context) error {
		r, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		r.Release()
		return nil
	})
}

// run shares b.N uses among the callers.
func run(b *testing.B, callers int, use func(context.Context) error) {
	ctx := b.Context()
	b.ReportAllocs()
	b.ResetTimer()
	if callers == 1 {
		for range b.N {
			if err := use(ctx); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism((callers + 1) / 2)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := use(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
