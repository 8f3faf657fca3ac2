package tree

import "testing"

func TestLinksThatLeaveTheTreeAreRecognized(t *testing.T) {
	for _, c := range []struct {
		target string
		depth  int
		want   bool
	}{
		{"sibling", 1, true},
		{"../a/b", 2, true},
		{"..", 2, true},
		{"..", 1, false},
		{"../x", 1, false},
		{"../../x", 2, false},
		{"/etc/passwd", 3, false},
		{"a/../../b", 3, false}, // what a is decides where that leads
		{"", 1, false},
	} {
		if got := StaysInside(c.target, c.depth); got != c.want {
			t.Errorf("StaysInside(%q, %d) = %v, want %v", c.target, c.depth, got, c.want)
		}
	}
}

func TestATreeIsBounded(t *testing.T) {
	for name, grow := range map[string]func(*Size) error{
		"by its entries": func(s *Size) error { return s.Add("f", 1, 0) },
		"by its paths":   func(s *Size) error { return s.Add("f", 1, 1<<20) },
		"by its links":   func(s *Size) error { s.Keep(1 << 20); return s.Add("f", 1, 0) },
		"by its depth":   func(s *Size) error { return s.Add("f", MaxDepth+1, 0) },
	} {
		var s Size
		var err error
		for range MaxEntries + 1 {
			if err = grow(&s); err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("it has no bound %s", name)
		}
	}
}
