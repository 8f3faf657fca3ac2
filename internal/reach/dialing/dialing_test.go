package dialing

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
)

func TestStagesFollowOneAnotherUntilTheDialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusals := 1
		var told []driver.Stage
		endpoint := driver.Endpoint{
			Trace: func(passed driver.Stage, _ string) { told = append(told, passed) },
			Dial: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(time.Second)
				if refusals--; refusals >= 0 {
					return nil, errors.New("refused")
				}
				return nil, nil
			},
		}
		began := time.Now()
		log := Begin()
		log.Note(&endpoint)
		time.Sleep(2 * time.Second) // for its turn
		for range 2 {
			_, _ = endpoint.Dial(t.Context(), "tcp", "a:1")
		}
		time.Sleep(3 * time.Second)
		endpoint.Passed(driver.StageTLS, "")
		log.End()
		endpoint.Passed(driver.StageSession, "")
		_, _ = endpoint.Reopen(t.Context(), "tcp", "a:1")
		at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
		want := []Passage{
			{StageTurn, at(0), at(2)},
			{driver.StageConnect, at(2), at(4)}, // with the attempt that failed
			{driver.StageTLS, at(4), at(7)},
		}
		if diff := cmp.Diff(want, log.Passages()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]driver.Stage{driver.StageTLS, driver.StageSession}, told); diff != "" {
			t.Error(diff)
		}
	})
}
