package columns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestAUseThatGoesOnSaysTheSameUntilItEnds(t *testing.T) {
	lasting := func(u *live.Use) string {
		var cells []any
		for _, column := range Uses {
			if !column.Fleeting {
				cells = append(cells, column.Cell(u, time.Time{}))
			}
		}
		return fmt.Sprintf("%q", cells)
	}
	before := &live.Use{Action: live.UseExec, State: live.UseRunning, DurationMicroseconds: 1_000_000}
	later := &live.Use{Action: live.UseExec, State: live.UseRunning, DurationMicroseconds: 3_000_000, BytesIn: 7, BytesOut: 9}
	if lasting(before) != lasting(later) {
		t.Errorf("a watch would print it again: %s, %s", lasting(before), lasting(later))
	}
	if later.State, later.ExitCode = live.UseEnded, new(int32); lasting(before) == lasting(later) {
		t.Error("a watch would not print its end")
	}
}

func TestWhatAUseDoesIsShortened(t *testing.T) {
	got := what(&live.Use{Action: live.UseExec, Command: []string{strings.Repeat("é", 100)}})
	if want := "exec " + strings.Repeat("é", maxWhat-len("exec ")-3) + "..."; got != want {
		t.Errorf("got %q", got)
	}
}
