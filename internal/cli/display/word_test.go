package display

import (
	"os/exec"
	"testing"
)

func TestAShellTakesWordsThatAreShownAsTheyAre(t *testing.T) {
	for _, word := range []string{"plain", "a b", "it's", "''", "$(id)", "*", `back\slash`, "", "two\nlines", "--flag=x y"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Word(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is shown as %s, which a shell takes for %q, error %v", word, Word(word), out, err)
		}
	}
}
