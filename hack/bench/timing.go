package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// contender is one way to do the same thing.
type contender struct {
	name string
	do   func(context.Context) error
	// every n means that it takes part in one of n rounds: 1 for all. Slow
	// contenders are repeated less often.
	every int
}

// race runs the contenders in turn until the time is over and returns how long
// each run took, in milliseconds. The first rounds are practice and do not count.
func race(ctx context.Context, span time.Duration, contenders ...contender) (map[string][]float64, error) {
	const practice = 3
	took := map[string][]float64{}
	end := time.Now().Add(span)
	for round := 0; round < practice+1 || time.Now().Before(end); round++ {
		for i := range contenders {
			// The first one changes, because it may warm up the next one's caches.
			c := contenders[(i+round)%len(contenders)]
			if round%c.every != 0 {
				continue
			}
			begin := time.Now()
			if err := c.do(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= practice || c.every > practice {
				took[c.name] = append(took[c.name], float64(time.Since(begin).Nanoseconds())/1e6)
			}
		}
	}
	return took, nil
}

func median(samples []float64) float64 { return percentile(samples, 50) }

// percentile is the smallest sample that this percentage of all samples does not
// exceed.
func percentile(samples []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(rank, 1)-1]
}
