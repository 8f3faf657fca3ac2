package doctor

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/cli/clitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDoctorFindsAllInOrder(t *testing.T) {
	f := clitest.Shop(t, New)
	got := f.Run("doctor")
	got.Stdout = regexp.MustCompile(`in [0-9.]+(µs|ms),`).ReplaceAllString(got.Stdout, "in 1ms,")
	got.Stdout = strings.ReplaceAll(got.Stdout, f.URL, "https://cluster")
	clitest.Want(t, got, 0, `
✔ cluster                               https://cluster answers with Kubernetes v1.37.2; you are alice
✔ connpool.dev                          pools and targets can be declared
✔ APIService                            kube-apiserver reaches the live API
✔ operator                              answers in 1ms, version v1.2.4
✔ list connectionpools                  permitted in namespace shop (status)
✔ list connectiontargets                permitted in namespace shop (status, run --all)
✔ create connectionpools                permitted in namespace shop (declare pools)
✔ create connectiontargets              permitted in namespace shop (declare targets)
✔ list connections                      permitted in namespace shop (connections, top)
✔ create connectionpools/exec           permitted in namespace shop (exec, run, cp, shell)
✔ get connectionpools/exec              permitted in namespace shop (exec, run, cp, shell)
✔ create connectionpools/portforward    permitted in namespace shop (port-forward)
✔ get connectionpools/portforward       permitted in namespace shop (port-forward)
✔ create connectionpools/socketforward  permitted in namespace shop (port-forward of unix sockets)
✔ create connectionpools/proxy          permitted in namespace shop (proxy)
✔ get connectionpools/proxy             permitted in namespace shop (proxy)
✔ create sessions                       permitted in namespace shop (session create)
✔ list sessions                         permitted in namespace shop (session list)
✔ delete sessions                       permitted in namespace shop (session delete)
✔ create sessions/exec                  permitted in namespace shop (session exec)
✔ get sessions/exec                     permitted in namespace shop (session exec)
✔ create connectionpools/drain          permitted in namespace shop (drain POOL)
✔ create connections/drain              permitted in namespace shop (drain connection/NAME)
✔ create connectiontargets/check        permitted in namespace shop (check)
`)
}

func TestDoctorDistinguishesWhatIsBrokenFromWhatIsDenied(t *testing.T) {
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
		"the operator does not answer": {
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
		"the logs of all replicas are proposed": {
			path: "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev", code: 1,
			line: "logs -l app.kubernetes.io/name=connpool --prefix",
			answer: func(out http.ResponseWriter, _ *http.Request) {
				_, _ = out.Write([]byte(`{"status":{"conditions":[{"type":"Available","status":"False","reason":"FailedDiscoveryCheck"}]}}`))
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
			f := clitest.Shop(t, New)
			f.Answers[test.path] = test.answer
			f.Denied[test.denied] = true
			got := f.Run("doctor")
			if got.Code != test.code || !strings.Contains(got.Stdout, test.line) {
				t.Errorf("exit code %d, want %d, and %q in\n%s", got.Code, test.code, test.line, got.Stdout)
			}
		})
	}
}

func TestDoctorForPrograms(t *testing.T) {
	var report struct{ Findings []finding }
	got := clitest.Shop(t, New).Run("doctor", "-o", "json")
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || len(report.Findings) < 10 {
		t.Errorf("%v in %s", err, got.Stdout)
	}
}
