package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/controller/status"
	"github.com/connpool/connpool/test/controlplane/process"
)

// restartGrace is how long the operator may take to end.
const restartGrace = 30 * time.Second

// restart measures the operator's restart while everything is as its statuses say: until
// it has all connections again, and what it writes until it has settled.
func (c *cluster) restart(ctx context.Context, s settings, name string, targets int) ([]row, error) {
	before, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	s.say("restart the operator")
	c.operator.Stop(restartGrace)
	begin := time.Now()
	if c.operator, err = process.Start(c.command); err != nil {
		return nil, err
	}
	if err := c.awaitWarm(ctx, targets); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if _, err := c.settle(ctx, s); err != nil {
		return nil, err
	}
	if err := pause(ctx, of(s, status.Interval, 0)); err != nil { // counters are written that late
		return nil, err
	}
	after, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	writes := float64(after[otherWrites] - before[otherWrites])
	return []row{
		figure(name+"restarted, until all connections are there", took.Seconds(), "s"),
		figure(name+"restarted, API writes for each", writes/float64(targets), "").atMost(0.05),
	}, nil
}

// awaitWarm waits until the operator has a warm connection to so many targets. It asks the
// live API, because the statuses of a restarted operator say from the start that they have.
func (c *cluster) awaitWarm(ctx context.Context, targets int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		warm := 0
		for _, counts := range c.counts(ctx) {
			if counts.Warm >= max(1, counts.Desired) {
				warm++
			}
		}
		if warm >= targets {
			return nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d targets have their connections after the restart: %w", warm, targets, err)
		}
	}
}

// counts are the live figures by target; none while the live API is away.
func (c *cluster) counts(ctx context.Context) []live.ConnectionCounts {
	path := "/apis/" + live.GroupVersion.String() + "/namespaces/" + namespace + "/connections"
	text, err := c.scraper.Get().AbsPath(path).Param("limit", "1").DoRaw(ctx)
	if err != nil {
		return nil
	}
	var list live.ConnectionList
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list.Counts
}
