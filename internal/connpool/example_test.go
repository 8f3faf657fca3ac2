package connpool_test

import (
	"context"
	"fmt"

	"github.com/connpool/connpool/internal/connpool"
)

// wire is a connection that only knows whether it is open.
type wire struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (fix *wire) Context() context.Context { return fix.ctx }
func (fix *wire) Close() error             { fix.cancel(); return nil }

func dial(context.Context) (*wire, error) {
	ctx, cancel := context.WithCancel(context.Background())
	return &wire{ctx, cancel}, nil
}

func Example() {
	ctx := context.Background()
	pool := connpool.New(connpool.Options[*wire]{
		Dial:   dial,
		Limits: connpool.Limits{MinWarm: 1, Max: 4, LeasesPerConn: 8, MaxPending: 100},
	})
	for range 2 {
		lease, err := pool.Acquire(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("open:", lease.Conn().Context().Err() == nil)
		lease.Release()
	}
	fmt.Println("uses:", pool.Stats().Uses)
	fmt.Println("closed:", pool.Drain(ctx))
	// Output:
	// open: true
	// open: true
	// uses: 2
	// closed: <nil>
}
