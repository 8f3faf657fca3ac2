package cli

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMissingAndNeedlessWordsAreNamed(t *testing.T) {
	tests := map[string]struct{ line, says string }{
		"none of one":           {"targets", "error: POOL is missing"},
		"none of a host":        {"target add", "error: [USER@]HOST[:PORT] is missing"},
		"the second of two":     {"cp note", "error: DESTINATION is missing"},
		"no port":               {"port-forward db", "error: [LOCAL:]REMOTE is missing"},
		"no file":               {"import ssh-config", "error: FILE is missing"},
		"two for one":           {"status web db", `error: "db" is one word too many`},
		"one for none":          {"web extra", `error: "extra" is one word too many`},
		"no command of that":    {"import hosts", `error: kubectl connpool import has no command "hosts"`},
		"no command of another": {"target remove web-1", `error: kubectl connpool target has no command "remove"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clitest.WantStderr(t, shop(t).Run(strings.Fields(test.line)...), 1, test.says)
		})
	}
}

func TestAWordOfAnotherProgramHasOneSuggestion(t *testing.T) {
	for word, want := range map[string]string{"get": "status", "ls": "status", "ps": "connections", "logs": "exec", "scp": "cp"} {
		clitest.WantStderr(t, shop(t).Run(word), 1, "Did you mean "+want+"?\n")
	}
}

func TestAnEmptyTargetIsNotAnyTarget(t *testing.T) {
	f := shop(t)
	f.Remote = nothing
	for line, code := range map[string]int{
		"exec web/ -- true": 254, "exec pool/web/ -- true": 254, "run web/ -- true": 1, "port-forward web/ 80": 1,
		"session create web/": 1, "proxy web/ -- true": 254, "containers web/": 1, "shell web/": 254,
	} {
		clitest.WantStderr(t, f.Run(strings.Fields(line)...), code, "/\" has no target behind the slash: write only web for any of the pool")
	}
}

func TestATargetOfAnotherPoolIsNotSaidToBeMissing(t *testing.T) {
	for targets, hint := range map[string]string{"web-1, web-2": "", "web-1, web-2, ...": "\n\nDid you mean web-1 or web-2?"} {
		f, message := shop(t), `pool web has no target "web-3"; it has `+targets
		f.Answers[clitest.LivePools+"/web/exec"] = func(out http.ResponseWriter, _ *http.Request) {
			f.Refuse(out, metav1.Status{
				Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: message,
				Details: &metav1.StatusDetails{Group: "connpool.dev", Kind: "connectiontargets", Name: "web-3"},
			})
		}
		if got := f.Run("exec", "web/web-3", "--", "true"); got.Code != 254 || got.Stderr != "error: "+message+hint+"\n" {
			t.Errorf("code %d: %s", got.Code, got.Stderr)
		}
	}
}

func TestBadFlagsAreExplainedWithoutWordsOfGo(t *testing.T) {
	for line, says := range map[string]string{
		"status -v=x":                  `error: -v "x" is not a whole number`,
		"exec web --timeout=5 -- true": `error: --timeout "5" is not a duration such as 30s or 5m`,
		"status --request-timeout=abc": `error: --request-timeout "abc" is not a duration such as 10s`,
		"status --context nope":        `error: the kubeconfig has no context "nope"`,
		"exec web hostname -f":         "Those of the remote command stand behind --",
	} {
		got := shop(t).Run(strings.Fields(line)...)
		clitest.WantStderr(t, got, got.Code, says)
		if strings.Contains(got.Stderr, "strconv") || strings.Contains(got.Stderr, "time: ") {
			t.Errorf("%s: %s", line, got.Stderr)
		}
	}
}

func TestTheRoleForARefusalIsGivenToTheUserWhoWasRefused(t *testing.T) {
	f := shop(t)
	f.Answers[clitest.LivePools+"/web/exec"] = func(out http.ResponseWriter, _ *http.Request) {
		f.Refuse(out, metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
			Message: `connectionpools.live.connpool.dev "web" is forbidden: User "system:serviceaccount:ci:job" cannot get resource`,
		})
	}
	clitest.WantStderr(t, f.Run("exec", "web", "--", "true"), 254, "--user system:serviceaccount:ci:job\n")
}
