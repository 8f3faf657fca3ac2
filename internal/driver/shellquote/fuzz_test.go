package shellquote

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzWords has a real shell take apart what Words and Login put together.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{"", "a b", "it's", "$(id)", "a\nb", "-n", "\\", "!", "\xff", "~", "if"} {
		f.Add(seed, "second")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		if strings.ContainsRune(first+second, 0) || len(first)+len(second) > 8<<10 {
			t.Skip("no process can receive it")
		}
		words := []string{"printf", `%s\000`, first, second}
		for how, line := range map[string]string{"Words": Words(words), "Login": Login(words)} {
			out, err := exec.Command("sh", "-c", line).Output()
			if want := first + "\x00" + second + "\x00"; err != nil || string(out) != want {
				t.Errorf("%s: %q arrived as %q, error %v", how, want, out, err)
			}
		}
	})
}
