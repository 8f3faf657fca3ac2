package cli

import (
	"context"
	"io"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/driver"
)

// nothing is a command that does nothing.
func nothing(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
	return clitest.Exits(0, "")
}

func TestWordsThatAreNotCommandsFailWithASuggestion(t *testing.T) {
	tests := map[string]struct {
		words []string
		code  int
		says  string
	}{
		"of the root":                 {[]string{"statsu"}, 1, "Did you mean status?"},
		"of the root, unlike any":     {[]string{"frobnicate"}, 1, "See its commands: kubectl connpool --help"},
		"of ssh":                      {[]string{"ssh", "web"}, 1, "Did you mean shell?"},
		"of session":                  {[]string{"session", "creat"}, 1, "Did you mean create?"},
		"of session, unlike any":      {[]string{"session", "frobnicate"}, 1, "See its commands: kubectl connpool session --help"},
		"of help":                     {[]string{"help", "exce"}, 1, "Did you mean exec?"},
		"a flag":                      {[]string{"status", "--frob"}, 1, "See the flags: kubectl connpool status --help"},
		"a flag of a command to run":  {[]string{"exec", "web", "--frob"}, 254, "See the flags: kubectl connpool exec --help"},
		"a flag below another":        {[]string{"session", "list", "--frob"}, 1, "kubectl connpool session list --help"},
		"a word before the namespace": {[]string{"sesion", "-n", "shop"}, 1, "session"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clitest.WantStderr(t, shop(t).Run(test.words...), test.code, test.says)
		})
	}
}

func TestHelpAndVersionAreThereAsUsersTypeThem(t *testing.T) {
	f := shop(t)
	for words, want := range map[string]string{
		"help":                "Use a pool:",
		"help exec":           "kubectl connpool exec POOL[/TARGET]",
		"help session create": "kubectl connpool session create POOL[/TARGET]",
		"session":             "Run several commands in one shell",
		"--version":           clitest.Version + "\n",
	} {
		if got := f.Run(strings.Fields(words)...); got.Code != 0 || !strings.Contains(got.Stdout, want) {
			t.Errorf("%s: %+v", words, got)
		}
	}
}

func TestPoolsThatDoNotExistFailEverywhereInTheSameWords(t *testing.T) {
	f := shop(t)
	for _, line := range []string{
		"status wep", "connections wep", "top wep --once", "drain wep", "doctor wep", "run wep --all -- true", "session create wep",
		"exec wep -- true", "exec pool/wep/web-1 -- true", "port-forward wep 80", "proxy wep -- true", "cp wep/web-1:/etc/hosts .",
	} {
		f.Answers[clitest.LivePools+"/wep/exec"] = f.NoPool("wep")
		f.Answers[clitest.LivePools+"/wep/portforward"] = f.NoPool("wep")
		got := f.Run(strings.Fields(line)...)
		if got.Code != 1 && got.Code != 254 {
			t.Errorf("%s: exit code %d", line, got.Code)
		}
		clitest.WantStderr(t, got, got.Code, `error: there is no pool "wep" in namespace shop`, "Did you mean web?")
	}
}

func TestAPoolMayHaveItsKindBeforeIt(t *testing.T) {
	f := shop(t)
	f.Remote = nothing
	for _, kind := range []string{"connectionpool", "connectionpools", "cpool", "pool", "connectionpool.connpool.dev", "connectionpools.connpool.dev"} {
		for _, words := range [][]string{
			{"status", kind + "/web"},
			{"drain", kind + "/web"},
			{"connections", kind + "/web"},
			{"exec", kind + "/web", "--", "true"},
			{"exec", kind + "/web/web-1", "--", "true"},
			{"run", kind + "/web", "--all", "--", "true"},
			{"session", "create", kind + "/web/web-1"},
			{"doctor", kind + "/web"},
		} {
			if got := f.Run(words...); got.Code != 0 {
				t.Errorf("%q: code %d: %s", words, got.Code, got.Stderr)
			}
		}
	}
	if got := f.Run("check", "ctarget/web-9"); !strings.Contains(got.Stderr+got.Stdout, `"web-9"`) {
		t.Errorf("%+v", got)
	}
}

func TestRequestsAreLoggedWithoutCredentials(t *testing.T) {
	f := shop(t)
	f.Remote = nothing
	tests := map[string]struct {
		words    []string
		has, not string
	}{
		"not unless asked for":   {[]string{"status"}, "", "GET "},
		"their URLs":             {[]string{"status", "-v=6"}, "GET " + f.URL + "/apis/connpool.dev/v1alpha1/namespaces/shop/connectionpools 200 OK in ", "request:"},
		"in two words":           {[]string{"-v", "6", "status"}, "200 OK in ", "request:"},
		"their headers":          {[]string{"status", "-v=8"}, `request: User-Agent: "kubectl-connpool/v1.2.3"`, "secret"},
		"upgrades":               {[]string{"exec", "web", "-v=8", "--", "true"}, "101 Switching Protocols in ", "secret"},
		"those that are refused": {[]string{"drain", "wep", "-v=6"}, "404 Not Found in ", "secret"},
		"those outside the APIs": {[]string{"version", "-v=6"}, "/openapi/v3/", "secret"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.RunWith(io.NopCloser(strings.NewReader("")), test.words...)
			if !strings.Contains(got.Stderr, test.has) || strings.Contains(got.Stderr, test.not) {
				t.Errorf("said %s", got.Stderr)
			}
		})
	}
}

func TestThePoolsChoiceIsSaidOnStandardError(t *testing.T) {
	f := shop(t)
	f.Remote, f.Routing = nothing, "LeastLoaded"
	const note = "note: running on web-2, chosen by the pool\n"
	for line, want := range map[string]string{"exec web --target web-2 -- true": note, "exec web --target web-2 -q -- true": ""} {
		if got := f.Run(strings.Fields(line)...); got.Stderr != want || got.Stdout != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
