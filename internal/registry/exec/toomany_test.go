package exec

import (
	"slices"
	"strconv"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// An answer must not be many times longer than its request.
func TestTooManyWordsAreOneProblem(t *testing.T) {
	const many = live.MaxCommandArguments + 1
	env := map[string]string{}
	for i := range many {
		env[strconv.Itoa(i)] = "\x00"
	}
	for name, problems := range map[string]int{
		"words":     len(validateSpec(&live.ExecSpec{Command: slices.Repeat([]string{"\x00"}, many)}, Rules{})),
		"variables": len(validateSpec(&live.ExecSpec{Shell: "true", Env: env}, Rules{})),
		"pairs": len(func() []error {
			_, problems := readEnvironment(nil, slices.Repeat([]string{"=\x00"}, many))
			return problems.ToAggregate().Errors()
		}()),
	} {
		if problems != 1 {
			t.Errorf("too many %s are %d problems", name, problems)
		}
	}
}
