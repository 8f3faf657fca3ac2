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
	// every is in how many rounds it takes part once: 1 for all. What takes long
	// is repeated less often.
	every int
}

// race lets the contenders do their thing in turn until the time is over, and
// returns what each took, in milliseconds. The first rounds are practice.
func race(ctx context.Context, span time.Duration, contenders ...contender) (map[string][]float64, error) {
	const practice = 3
	took := map[string][]float64{}
	end := time.Now().Add(span)
	for round := 0; round < practice+1 || time.Now().Before(end); round++ {
		for i := range contenders {
			// Who goes first changes, because it may warm up the next one's caches.
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

// percentile is the smallest sample that so many of a hundred do not exceed.
func percentile(samples []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	rank := (len(sorted)*percent + 99) / 100
	return sorted[max(rank, 1)-1]
}
