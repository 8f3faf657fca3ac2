package cluster

import (
	"cmp"
	"slices"
	"strings"
)

// nearest returns the known words that the user may have meant by a word, at most
// three, the best first.
func nearest(word string, known []string) []string {
	type guess struct {
		word     string
		distance int
	}
	var guesses []guess
	for _, k := range known {
		d := distance(word, k)
		if strings.HasPrefix(k, word) || strings.HasPrefix(word, k) {
			d = min(d, 1)
		}
		if d <= max(1, len(word)/3) {
			guesses = append(guesses, guess{k, d})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.word, b.word))
	})
	words := make([]string, 0, 3)
	for _, g := range guesses[:min(3, len(guesses))] {
		words = append(words, g.word)
	}
	return words
}

// distance returns how many letters of a have to be changed, added, removed or
// swapped with their neighbor to turn it into b.
func distance(a, b string) int {
	// to[i][j] turns the first i letters of a into the first j letters of b.
	to := make([][]int, len(a)+1)
	for i := range to {
		to[i] = make([]int, len(b)+1)
		to[i][0] = i
	}
	for j := range to[0] {
		to[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			to[i][j] = min(to[i-1][j]+1, to[i][j-1]+1, to[i-1][j-1]+differs(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				to[i][j] = min(to[i][j], to[i-2][j-2]+1)
			}
		}
	}
	return to[len(a)][len(b)]
}

func differs(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
