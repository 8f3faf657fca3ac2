//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

func TestASessionKeepsItsShellEverywhere(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			create := append([]string{"session", "create", p.pool, "-o", "name"}, p.flags...)
			name := strings.TrimSpace(connpool(t, create...))
			t.Cleanup(func() { tryConnpool(t, "", "session", "delete", name) })
			in := func(words ...string) result {
				t.Helper()
				return tryConnpool(t, "", append([]string{"session", "exec", name, "--"}, words...)...)
			}
			in("cd", "/tmp")
			in("export", "STAGE=two words")
			if got := in("pwd"); got.stdout != "/tmp\n" {
				t.Errorf("after cd, pwd is %+v", got)
			}
			if got := in("sh", "-c", "echo $STAGE; echo err >&2; exit 5"); got.stdout != "two words\n" || !strings.Contains(got.stderr, "err\n") || got.code != 5 {
				t.Errorf("a command in the session: %+v", got)
			}
			if got := in("cat"); got.stdout != "" || got.code != 0 {
				t.Errorf("a command that reads its input: %+v, want an empty input", got)
			}
			if list := connpool(t, "session", "list"); !strings.Contains(list, strings.TrimPrefix(name, "session/")) {
				t.Errorf("the session is not listed:\n%s", list)
			}
			connpool(t, "session", "delete", name)
			if got := in("true"); got.code != 254 {
				t.Errorf("after its end, a command: %+v, want 254", got)
			}
		})
	}
}

func TestASessionInAPlaceThatIsNotThereIsNotOpened(t *testing.T) {
	for pool, flag := range map[string]string{"engine-unix": "--container=nobody", "cluster": "--pod=nobody"} {
		if got := tryConnpool(t, "", "session", "create", pool, flag); got.code == 0 || !strings.Contains(got.stderr, "nobody") {
			t.Errorf("in %s: %+v", pool, got)
		}
	}
}
