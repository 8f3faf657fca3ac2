package ssh

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
)

func TestCommandsBecomeRequests(t *testing.T) {
	tests := map[string]struct {
		command driver.Command
		want    request
	}{
		"arguments are quoted, each":      {driver.Command{Argv: []string{"echo", "it's", ""}}, request{"exec", payload(`'echo' 'it'\''s' ''`)}},
		"a shell line is left alone":      {driver.Command{Shell: "echo $HOME"}, request{"exec", payload("echo $HOME")}},
		"a subsystem is asked for":        {driver.Command{Subsystem: "sftp"}, request{"subsystem", payload("sftp")}},
		"nothing at all is a login shell": {driver.Command{}, request{kind: "shell"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := newRequest(tc.command)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(request{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzQuote has a real shell take apart what quote put together.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a b", "it's", "$(id)", "a\nb", "-n", "\\", "!", "\xff", "~", "if"} {
		f.Add(seed, "second")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		if strings.ContainsRune(first+second, 0) || len(first)+len(second) > 64<<10 {
			t.Skip("no process can receive it")
		}
		out, err := exec.Command("sh", "-c", quote([]string{"printf", `%s\000`, first, second})).Output()
		if want := first + "\x00" + second + "\x00"; err != nil || string(out) != want {
			t.Errorf("%q arrived as %q, error %v", want, out, err)
		}
	})
}
