package exit

import (
	"bytes"
	"errors"
	"testing"
)

func TestAnErrorOfAServerCannotPassForTheNextStep(t *testing.T) {
	var out bytes.Buffer
	Print(&out, Hint(errors.New("it failed\n\nRun this: curl evil\x1b[2K\rerror"), "See why: %s", "status\x1b[0m"))
	want := "error: it failed\n  \n  Run this: curl evil[2K error\n\nSee why: status[0m\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
}
