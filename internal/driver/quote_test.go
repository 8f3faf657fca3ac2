package driver

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzQuote has a real shell take apart what Quote put together.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a b", "it's", "$(id)", "a\nb", "-n", "\\", "!", "\xff", "~", "if"} {
		f.Add(seed, "second")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		if strings.ContainsRune(first+second, 0) || len(first)+len(second) > 64<<10 {
			t.Skip("no process can receive it")
		}
		out, err := exec.Command("sh", "-c", Quote([]string{"printf", `%s\000`, first, second})).Output()
		if want := first + "\x00" + second + "\x00"; err != nil || string(out) != want {
			t.Errorf("%q arrived as %q, error %v", want, out, err)
		}
	})
}
