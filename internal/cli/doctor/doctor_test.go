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
✔ cluster       https://cluster answers with Kubernetes v1.37.2; you are alice
✔ connpool.dev  pools and targets can be declared
✔ APIService    kube-apiserver reaches the live API
✔ operator      answers in 1ms, version v1.2.4
✔ way           requests go through kube-apiserver

What you may do in namespace shop:

WHAT                                                   MAY YOU   NEEDED FOR
get,list connectionpools                               yes       status, web
get,list connectiontargets                             yes       status, web
get,list connections                                   yes       connections, top, web
get,list uses                                          yes       history, web
create,get connectionpools/exec                        yes       exec, run, cp, shell, targets, containers, pods
create,get connectionpools/portforward                 yes       port-forward
create connectionpools/socketforward                   yes       port-forward of unix sockets
create,get,update,patch,delete connectionpools/proxy   yes       proxy
create,get,list,delete sessions                        yes       session create, list, delete
create,get sessions/exec                               yes       session exec
create connectionpools/drain                           yes       drain POOL
create connections/drain                               yes       drain connection/NAME
create connectiontargets/check                         yes       check
create,update,delete connectionpools                   yes       declaring pools
create,update,delete connectiontargets                 yes       declaring targets
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
			denied: "create connpool.dev/connectionpools", code: 0, line: "no: lacks create   declaring pools",
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
	var report struct {
		Findings []finding
		Rights   []right
	}
	got := clitest.Shop(t, New).Run("doctor", "-o", "json")
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || len(report.Findings) != 5 || len(report.Rights) < 10 || !report.Rights[0].Allowed {
		t.Errorf("%v in %s", err, got.Stdout)
	}
}

func TestDoctorProposesOneRoleWithWhatIsMissing(t *testing.T) {
	f := clitest.Shop(t, New)
	for _, denied := range []string{"get live.connpool.dev/connectionpools/exec", "create live.connpool.dev/connectionpools/drain"} {
		f.Denied[denied] = true
	}
	got := f.Run("doctor", "pool/web")
	for _, want := range []string{
		"What you may do with pool web in namespace shop:",
		"no: lacks get   exec, run, cp, shell",
		"no              drain POOL",
		`kind: Role
metadata:
  name: connpool-user-of-web
  namespace: shop
rules:
- apiGroups: ["live.connpool.dev"]
  resources: ["connectionpools/exec"]
  resourceNames: ["web"]
  verbs: [get]
- apiGroups: ["live.connpool.dev"]
  resources: ["connectionpools/drain"]
  resourceNames: ["web"]
  verbs: [create]

and then: kubectl create rolebinding connpool-user-of-web --namespace shop --role connpool-user-of-web --user alice
`,
	} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("it lacks %q:\n%s", want, got.Stdout)
		}
	}
	clitest.WantStderr(t, f.Run("doctor", "wep"), 1, `there is no pool "wep" in namespace shop`, "Did you mean web?")
}
