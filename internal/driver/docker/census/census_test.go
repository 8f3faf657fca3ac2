package census

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stat returns a line of a census.
func stat(pid int, mark string, parent, session int, begun uint64) string {
	return fmt.Sprintf("%d %s S %d %d %d\n", pid, mark, parent, session, begun)
}

func TestTheProcessesOfACommandAreThoseThatDescendFromIt(t *testing.T) {
	initial := stat(1, "none", 0, 1, 10)
	self := stat(90, "other", 0, 90, 5000) + "self 90\n"
	tests := map[string]struct {
		text  string
		known map[int]uint64
		want  map[int]uint64
	}{
		"its mark":                          {initial + stat(7, "own", 0, 7, 100), nil, map[int]uint64{7: 100}},
		"children without a mark":           {initial + stat(7, "own", 0, 7, 100) + stat(8, "none", 7, 7, 101) + stat(9, "none", 8, 9, 102), nil, map[int]uint64{7: 100, 8: 101, 9: 102}},
		"a child with a lower number":       {initial + stat(5, "none", 7, 5, 101) + stat(7, "own", 0, 7, 100), nil, map[int]uint64{5: 101, 7: 100}},
		"what shares its session":           {initial + stat(8, "none", 1, 7, 101) + stat(9, "own", 1, 7, 102), nil, map[int]uint64{8: 101, 9: 102}},
		"what is known":                     {initial + stat(7, "none", 1, 6, 100), map[int]uint64{7: 100}, map[int]uint64{7: 100}},
		"not a later one of that number":    {initial + stat(7, "none", 1, 6, 400), map[int]uint64{7: 100}, map[int]uint64{}},
		"not the container's first":         {initial + stat(7, "own", 1, 1, 100) + stat(8, "none", 1, 1, 90), nil, map[int]uint64{7: 100}},
		"not what has another mark":         {initial + stat(7, "own", 0, 7, 100) + stat(8, "other", 7, 7, 101), nil, map[int]uint64{7: 100}},
		"not a line that is something else": {initial + "8 none ) S 0\n" + stat(7, "own", 0, 7, 100), nil, map[int]uint64{7: 100}},
		"not what has ended":                {initial + strings.Replace(stat(7, "own", 0, 7, 100), " S ", " Z ", 1), nil, map[int]uint64{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found, whole := Parse(tc.text + self)
			if !whole {
				t.Fatal("the census is not whole")
			}
			if diff := cmp.Diff(tc.want, found.Kin(tc.known)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A container may send what it likes as its list of processes.
func TestALongChainOfProcessesIsFollowedQuickly(t *testing.T) {
	const length = 16_000
	var chain Census
	for pid := length; pid > 1; pid-- {
		chain.Seen = append(chain.Seen, Sighting{PID: pid, Parent: pid - 1, Session: pid})
	}
	chain.Seen = append(chain.Seen, Sighting{PID: 2, Parent: 0, Session: 2, Mark: Own})
	begin := time.Now()
	if got := len(chain.Kin(nil)); got != length-1 {
		t.Errorf("%d processes found of %d", got, length-1)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAProcessIsTakenForTheCommandOnlyIfNoOtherCanBe(t *testing.T) {
	const age = 10 * time.Second
	self := stat(90, "other", 0, 90, 5000) + "self 90\n"
	tests := map[string]struct {
		text string
		want int
	}{
		"the only one":                     {stat(7, "none", 0, 7, 4500), 7},
		"one of two":                       {stat(7, "none", 0, 7, 4500) + stat(8, "none", 0, 8, 4600), 0},
		"beside one that is older":         {stat(7, "none", 0, 7, 4500) + stat(8, "none", 0, 8, 3000), 7},
		"beside one with another mark":     {stat(7, "none", 0, 7, 4500) + stat(8, "other", 0, 8, 4600), 7},
		"one that was started inside":      {stat(7, "none", 1, 7, 4500), 0},
		"the container's own first":        {stat(1, "none", 0, 1, 4500), 0},
		"none, but a child of what is not": {stat(7, "none", 0, 5, 4500), 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found, _ := Parse(tc.text + self)
			root, ok := found.Root(age)
			if root.PID != tc.want || ok != (tc.want != 0) {
				t.Errorf("took %d, want %d", root.PID, tc.want)
			}
		})
	}
}

func TestACensusIsWholeOrNone(t *testing.T) {
	for _, text := range []string{
		"", "self", "self x\n", "self 7\n", stat(7, "own", 0, 7, 1), "7 own\nself 7\n", "-7 own S\n", strings.Repeat("x", 1<<17) + "\nself 7\n",
	} {
		if found, whole := Parse(text); whole {
			t.Errorf("%.20q is a whole census: %+v", text, found)
		}
	}
}
