package cli

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestDoctorFindsAllInOrder(t *testing.T) {
	w := shop(t)
	got := w.connpool("doctor")
	got.stdout = regexp.MustCompile(`in [0-9.]+(µs|ms),`).ReplaceAllString(got.stdout, "in 1ms,")
	got.stdout = strings.ReplaceAll(got.stdout, w.url, "https://cluster")
	want(t, got, 0, `
✔ cluster                             https://cluster answers with Kubernetes v1.37.2; you are alice
✔ connpool.dev                        pools and targets can be declared
✔ APIService                          kube-apiserver reaches the live API
✔ operator                            answers in 1ms, version v1.2.4
✔ list connectionpools                permitted in namespace shop (status)
✔ list connectiontargets              permitted in namespace shop (status, run --all)
✔ create connectionpools              permitted in namespace shop (declare pools)
✔ create connectiontargets            permitted in namespace shop (declare targets)
✔ list connections                    permitted in namespace shop (connections, top)
✔ create connectionpools/exec         permitted in namespace shop (exec, run, cp, shell)
✔ get connectionpools/exec            permitted in namespace shop (exec, run, cp, shell)
✔ create connectionpools/portforward  permitted in namespace shop (port-forward)
✔ get connectionpools/portforward     permitted in namespace shop (port-forward)
✔ create connectionpools/proxy        permitted in namespace shop (proxy)
✔ get connectionpools/proxy           permitted in namespace shop (proxy)
✔ create sessions                     permitted in namespace shop (session create)
✔ list sessions                       permitted in namespace shop (session list)
✔ delete sessions                     permitted in namespace shop (session delete)
✔ create sessions/exec                permitted in namespace shop (session exec)
✔ get sessions/exec                   permitted in namespace shop (session exec)
✔ create connectionpools/drain        permitted in namespace shop (drain POOL)
✔ create connections/drain            permitted in namespace shop (drain connection/NAME)
✔ create connectiontargets/check      permitted in namespace shop (check)
`)
}

func TestDoctorTellsWhatIsBrokenAndWhatIsMerelyDenied(t *testing.T) {
	notInstalled := http.NotFound
	tests := map[string]struct {
		path   string
		answer http.HandlerFunc
		denied string
		code   int
		line   string
	}{
		"what may not be done is no failure": {
			denied: "create connpool.dev/connectionpools", code: 0, line: "! create connectionpools ",
		},
		"the custom resources are missing": {
			path: "/apis/connpool.dev/v1alpha1", answer: notInstalled, code: 1, line: "the custom resources are not installed",
		},
		"the live API is not registered": {
			path:   "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev",
			answer: notInstalled, code: 1, line: "the live API is not registered",
		},
		"the operator is away": {
			path: "/apis/live.connpool.dev/v1alpha1", code: 1, line: "✘ operator",
			answer: func(out http.ResponseWriter, _ *http.Request) {
				http.Error(out, "no endpoints", http.StatusServiceUnavailable)
			},
		},
		"the APIService says why": {
			path: "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev", code: 1, line: "MissingEndpoints: no endpoints",
			answer: func(out http.ResponseWriter, _ *http.Request) {
				_, _ = out.Write([]byte(`{"status":{"conditions":[{"type":"Available","status":"False","reason":"MissingEndpoints","message":"no endpoints"}]}}`))
			},
		},
		"the APIService may not be read": {
			path: "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev", code: 0, line: "! APIService",
			answer: func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusForbidden) },
		},
		"the user is unknown": {
			path: "/version", code: 1, line: "renew the credentials",
			answer: func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusUnauthorized) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := shop(t)
			w.answers[test.path] = test.answer
			w.denied[test.denied] = true
			got := w.connpool("doctor")
			if got.code != test.code || !strings.Contains(got.stdout, test.line) {
				t.Errorf("exit code %d, want %d, and %q in\n%s", got.code, test.code, test.line, got.stdout)
			}
		})
	}
}

func TestDoctorForPrograms(t *testing.T) {
	var report struct{ Findings []finding }
	got := shop(t).connpool("doctor", "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || len(report.Findings) < 10 {
		t.Errorf("%v in %s", err, got.stdout)
	}
}

func TestVersions(t *testing.T) {
	w := shop(t)
	if got := w.connpool("version"); !strings.HasPrefix(got.stdout, "Client: v1.2.3 (") || !strings.HasSuffix(got.stdout, "Server: v1.2.4\n") {
		t.Errorf("got %+v", got)
	}
	w.asked = nil
	if got := w.connpool("version", "--client", "-o", "json"); !strings.Contains(got.stdout, `"client": "v1.2.3"`) || len(w.requests()) > 0 {
		t.Errorf("got %+v after %v", got, w.requests())
	}
	w.answers[liveOpenAPI] = http.NotFound
	wantStderr(t, w.connpool("version"), 0, "Server: does not answer")
}

func TestCompletion(t *testing.T) {
	tests := map[string]struct {
		words []string
		want  string
	}{
		"pools":                {[]string{"status", ""}, "db\nweb\n"},
		"pools that fit":       {[]string{"exec", "w"}, "web\n"},
		"targets of a pool":    {[]string{"exec", "web/"}, "web/web-1\nweb/web-2\n"},
		"targets for a flag":   {[]string{"exec", "web", "--target", "web-"}, "web-1\nweb-2\n"},
		"any target":           {[]string{"check", "web-1", ""}, "db-1\nweb-1\nweb-2\n"},
		"connections to drain": {[]string{"drain", "connection/w"}, "connection/web-1-7\n"},
		"namespaces":           {[]string{"status", "-n", "k"}, "kube-system\n"},
		"contexts":             {[]string{"status", "--context", ""}, "it\n"},
		"states":               {[]string{"connections", "--state", ""}, "Idle\nInUse\nDraining\n"},
		"forms of output":      {[]string{"doctor", "-o", ""}, "json\nyaml\n"},
		"nothing after a pool": {[]string{"status", "web", ""}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := shop(t).connpool(append([]string{"__completeNoDesc"}, test.words...)...)
			words, _, _ := strings.Cut(got.stdout, ":4\n")
			if words != test.want {
				t.Errorf("completed %q, want %q", words, test.want)
			}
		})
	}
}

func TestCompletionOffersNothingWithoutACluster(t *testing.T) {
	w := newWorld(t)
	w.url = "http://127.0.0.1:1"
	if got := w.connpool("__completeNoDesc", "status", ""); got.code != 0 || got.stdout != ":4\n" {
		t.Errorf("got %+v", got)
	}
}

func TestCompletionScriptsAreForTheBinary(t *testing.T) {
	w := newWorld(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := w.connpool("completion", shell); got.code != 0 || !strings.Contains(got.stdout, "__complete") || strings.Contains(got.stdout, "kubectl connpool") || len(got.stdout) < 1000 {
			t.Errorf("%s: %d, %.200s", shell, got.code, got.stdout)
		}
	}
	wantStderr(t, w.connpool("completion", "tcsh"), 1, "tcsh")
}
