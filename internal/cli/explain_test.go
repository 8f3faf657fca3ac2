package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheMissingRuleIsPrinted(t *testing.T) {
	w := shop(t)
	w.denied["create live.connpool.dev/connectionpools/drain"] = true
	wantStderr(t, w.connpool("drain", "web"), 1, `cannot create resource "connectionpools/drain"`, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: connpool-connectionpools-drain-web
  namespace: shop
rules:
- apiGroups: ["live.connpool.dev"]
  resources: ["connectionpools/drain"]
  resourceNames: ["web"]
  verbs: [create]

and then: kubectl create rolebinding connpool-connectionpools-drain-web --namespace shop --role connpool-connectionpools-drain-web --user USER
`)
	w.denied["list connpool.dev/connectionpools"] = true
	wantStderr(t, w.connpool("status", "-A"), 1, "kind: ClusterRole", "verbs: [get, list]", "clusterrolebinding")
}

func TestNamesThatAreNotThere(t *testing.T) {
	w := shop(t)
	wantStderr(t, w.connpool("status", "wep"), 1, "Did you mean web?")
	wantStderr(t, w.connpool("status", "something"), 1, "There is db, web.")
	wantStderr(t, w.connpool("status", "web", "-n", "empty"), 1, "Namespace empty has no pools", "status -A")
	wantStderr(t, w.connpool("statsu"), 1, "status")
}

func TestProblemsBesideTheCommand(t *testing.T) {
	tests := map[string]struct {
		answer http.HandlerFunc
		words  []string
	}{
		"nobody serves the API": {
			http.NotFound, []string{"kubectl connpool doctor"},
		},
		"the operator is away": {
			func(out http.ResponseWriter, _ *http.Request) {
				http.Error(out, "service unavailable", http.StatusServiceUnavailable)
			},
			[]string{"service unavailable", "kubectl connpool doctor"},
		},
		"the cluster does not know the user": {
			func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusUnauthorized) },
			[]string{"renew the credentials"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := shop(t)
			w.answers["/apis/live.connpool.dev/v1alpha1/namespaces/shop/connections"] = test.answer
			wantStderr(t, w.connpool("connections"), 1, test.words...)
		})
	}
}

func TestWithoutACluster(t *testing.T) {
	w := newWorld(t)
	wantStderr(t, w.connpool("status", "--context", "none"), 1, "context was not found", "--kubeconfig or KUBECONFIG")
	w.url = "http://127.0.0.1:1"
	wantStderr(t, w.connpool("status"), 1, "The cluster does not answer")
}

func TestNearestNames(t *testing.T) {
	known := []string{"web", "web-canary", "db", "build", "worker"}
	tests := map[string]struct {
		word string
		want []string
	}{
		"one letter is wrong":       {"wep", []string{"web"}},
		"the beginning is there":    {"web-c", []string{"web", "web-canary"}},
		"nothing is like it":        {"zzzzzz", []string{}},
		"a letter is missing":       {"buld", []string{"build"}},
		"two letters are swapped":   {"wokrer", []string{"worker"}},
		"an empty word means all 3": {"", []string{"build", "db", "web"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, nearest(test.word, known)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrintableTextCannotSteerATerminal(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"an escape sequence":          {"a\x1b[2Jb", "a[2Jb"},
		"a C1 control":                {"a\u009b2Jb", "a2Jb"},
		"an override of direction":    {"a\u202eb", "ab"},
		"a line break is kept":        {"a\nb", "a\nb"},
		"a carriage return":           {"a\rb", "a b"},
		"letters of other languages":  {"Zürich Ελλάδα", "Zürich Ελλάδα"},
		"bytes that are not in UTF-8": {"a\xffb", "a\uFFFDb"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := printable(test.text); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestUsagesSayTheNameThatWasTyped(t *testing.T) {
	for path, name := range map[string]string{
		"/usr/bin/kubectl-connpool": "kubectl connpool", "connpool": "connpool", "kubectl-connpool.exe": "kubectl connpool",
	} {
		if got := calledAs(path); got != name {
			t.Errorf("%s is called %q, want %q", path, got, name)
		}
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	w := newWorld(t)
	for _, command := range newRootCommand(newFactory("connpool", "", w.streams())).Commands() {
		if command.Hidden {
			continue
		}
		got := w.connpool(command.Name(), "--help")
		if got.code != 0 || !strings.Contains(got.stdout, "Examples:\n") || strings.Contains(got.stdout, "--kubeconfig string") {
			t.Errorf("%s: %d\n%s", command.Name(), got.code, got.stdout)
		}
	}
}

func TestRareFlagsAreThere(t *testing.T) {
	flags := newRootCommand(newFactory("connpool", "", newWorld(t).streams())).PersistentFlags()
	for _, name := range rareFlags {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
}
