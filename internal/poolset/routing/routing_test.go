package routing

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/connpool/connpool/internal/connpool"
)

// scanned is what a look at every entry finds to be preferred.
func scanned(entries []*Entry[int]) *Entry[int] {
	return slices.MinFunc(entries, func(a, b *Entry[int]) int {
		rank := func(e *Entry[int]) int {
			if e.down || !e.load.Warm {
				return 1
			}
			return 0
		}
		return cmp.Or(rank(a)-rank(b), a.load.Uses+a.coming-b.load.Uses-b.coming, cmp.Compare(a.chosen, b.chosen), cmp.Compare(a.name, b.name))
	})
}

// TestEveryChoiceIsThatOfAScan changes a table at random and compares every choice with
// that of a look at all entries.
func TestEveryChoiceIsThatOfAScan(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, seed))
			table := new(Table[int])
			var in []*Entry[int]
			for step := range 2000 {
				switch action := random.IntN(10); {
				case action == 0 || len(in) == 0:
					e := table.New(step, fmt.Sprintf("target-%d", step))
					e.SetLoad(connpool.Load{Warm: true})
					table.Add(e)
					in = append(in, e)
				case action == 1 && len(in) > 1:
					i := random.IntN(len(in))
					table.Remove(in[i])
					in[i].SetLoad(connpool.Load{Uses: -1, Warm: true}) // must not bring it back
					in = slices.Delete(in, i, i+1)
				case action == 2:
					in[random.IntN(len(in))].SetDown(random.IntN(2) == 0)
				case action == 3:
					in[random.IntN(len(in))].Chosen()
				case action < 7:
					in[random.IntN(len(in))].SetLoad(connpool.Load{Uses: random.IntN(4), Warm: random.IntN(4) > 0})
				default:
					want := scanned(in)
					if got, ok := table.Choose(); !ok || got != want.value {
						t.Fatalf("step %d: target-%d was chosen (%v), a scan finds %s", step, got, ok, want.name)
					}
				}
			}
		})
	}
}

func TestAnEmptyTableHasNoChoice(t *testing.T) {
	table := new(Table[int])
	e := table.New(1, "a")
	table.Add(e)
	table.Remove(e)
	if value, ok := table.Choose(); ok {
		t.Errorf("%d was chosen from an empty table", value)
	}
}

// A request becomes load a moment after it was routed. All that come in this moment must not
// go to the target that seems to be idle.
func TestRequestsOnTheirWayCountAsLoad(t *testing.T) {
	table := new(Table[string])
	entries := map[string]*Entry[string]{}
	for _, name := range []string{"a", "b"} {
		entries[name] = table.New(name, name)
		entries[name].SetLoad(connpool.Load{Warm: true})
		table.Add(entries[name])
	}
	choose := func(want string) {
		t.Helper()
		if got, _ := table.Choose(); got != want {
			t.Fatalf("%s was chosen, want %s", got, want)
		}
	}
	choose("a")
	choose("b")
	entries["a"].SetLoad(connpool.Load{Uses: 1, Warm: true}) // b's request is still on its way
	choose("a")
	choose("b")
	entries["b"].Refused()
	choose("b")
}
