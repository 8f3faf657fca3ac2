package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheTableAlignsWhatIsComparedAndWhatIsNot(t *testing.T) {
	got := format([]row{
		compared("command, p50", 2.425, "ms", "fresh ssh", 220).ratioAtMost(0.1),
		compared("engine", 150, "ns", "puddle", 100).ratioAtMost(1),
		figure("CPU", 2.816, "%").atMost(5),
		figure("memory", 152.3, "MiB"),
	})
	want := `
what             ours  beside     theirs  ratio      goal  met
command, p50  2.42 ms  fresh ssh  220 ms  0.01x  <= 0.10x  yes
engine         150 ns  puddle     100 ns  1.50x  <= 1.00x  NO
CPU            2.82 %  -               -      -    <= 5 %  yes
memory        152 MiB  -               -      -         -  -
`
	if diff := cmp.Diff(want, "\n"+got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestAPercentileIsOneOfTheSamples(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	tests := map[string]struct {
		samples []float64
		percent int
		want    float64
	}{
		"one sample is its own median":             {[]float64{7}, 50, 7},
		"one sample is its own p99":                {[]float64{7}, 99, 7},
		"the median of three is the middle one":    {[]float64{9, 1, 5}, 50, 5},
		"the p50 of a hundred is the fiftieth":     {hundred, 50, 50},
		"the p99 of a hundred is all but the last": {hundred, 99, 99},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := percentile(tc.samples, tc.percent); got != tc.want {
				t.Errorf("percentile(%v, %d) = %v, want %v", tc.samples, tc.percent, got, tc.want)
			}
		})
	}
}

func TestARaceTakesTurnsAndLeavesOutThePractice(t *testing.T) {
	var often, rarely int
	took, err := race(t.Context(), 0,
		contender{"often", func(context.Context) error { often++; return nil }, 1},
		contender{"rarely", func(context.Context) error { rarely++; return nil }, 4})
	if err != nil {
		t.Fatal(err)
	}
	if often != 4 || rarely != 1 {
		t.Errorf("%d and %d turns, want 4 and 1", often, rarely)
	}
	if len(took["often"]) != 1 || len(took["rarely"]) != 1 {
		t.Errorf("%d and %d samples, want 1 each", len(took["often"]), len(took["rarely"]))
	}
}

func TestTheUseOfAProcessIsRead(t *testing.T) {
	used, err := cpuTime(os.Getpid())
	if err != nil || used < 0 || used > time.Hour {
		t.Errorf("cpuTime = %s, %v", used, err)
	}
	resident, err := residentKiB(os.Getpid())
	if err != nil || resident < 1024 || resident > 1<<30 {
		t.Errorf("residentKiB = %v, %v", resident, err)
	}
}
