package use_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestWhatTheAuditSays(t *testing.T) {
	for name, commands := range map[string]bool{"with the words of commands": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				f.Fake.OnExec(registrytest.Saying("canary-stdout", "canary-stderr", 3))
				object := registrytest.Identified("id-1", "deploy", "canary-\x1b[31margument")
				object.Spec.Stdin, object.Spec.Env = []byte("canary-stdin"), map[string]string{"A": "canary-env"}
				f.Post(f.Context(), "web", object)
				line := f.Audit()
				for _, want := range []string{
					`"user"="alice"`, `"namespace"="team"`, `"pool"="web"`, `"target"="web-1"`, `"subresource"="exec"`, `"transport"="json"`,
					`"requestID"="id-1"`, `"connection"="web-1-`, `"acquired"="Warm"`, `"outcome"="Completed"`, `"exitCode"=3`, `"bytesOut"=26`,
				} {
					if !strings.Contains(line, want) {
						t.Errorf("%s is missing in %s", want, line)
					}
				}
				for _, secret := range []string{"canary-stdin", "canary-env", "canary-stdout", "canary-stderr", "\x1b"} {
					if strings.Contains(line, secret) {
						t.Errorf("%q is in %s", secret, line)
					}
				}
				if strings.Contains(line, `canary-\x1b[31margument`) != commands {
					t.Errorf("commands=%v, and the lines say %s", commands, line)
				}
				if n := f.Lines(); n != 2 {
					t.Errorf("%d lines", n)
				}
			}, func(c *use.Config) { c.AuditCommands = commands })
		})
	}
}

func TestARefusedRequestIsOneLine(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Post(f.Context(), "web", registrytest.On("no\nsuch"), registrytest.As("mal\x1b[31mlory"))
		if line := f.Audit(); f.Lines() != 1 || !strings.Contains(line, `"code"=404`) || strings.ContainsAny(line, "\n\x1b") || !strings.Contains(line, `"user"="mal\x1b[31mlory"`) {
			t.Errorf("audit says %s", line)
		}
	})
}

func TestUsersAreToldApartInTheAudit(t *testing.T) {
	for name, test := range map[string]struct{ user, uid, want string }{
		"a name":                  {"admin", "", `"user"="admin" "namespace"`},
		"an unseen character":     {"adm\u200bin", "", `"user"="adm\u200bin" "namespace"`},
		"a namesake":              {"admin", "2", `"user"="admin" "uid"="2" "namespace"`},
		"a name that goes on":     {strings.Repeat("a", 300), "", `"user"="` + strings.Repeat("a", 300) + `" "namespace"`},
		"an escape of a terminal": {"admin\x1b[2K", "", `"user"="admin\x1b[2K" "namespace"`},
		"a line of its own":       {"admin\nuse started", "", `"user"="admin\nuse started" "namespace"`},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Web()
				ctx := request.WithUser(request.WithNamespace(f.Context(), "team"), &user.DefaultInfo{Name: test.user, UID: test.uid})
				u, err := f.Gate.Admit(ctx, "web", "exec")
				if err != nil {
					t.Fatal(err)
				}
				u.AuditStarted(use.LeaseInfo{}, nil, new(traffic.Bytes))
				if line := f.Audit(); !strings.Contains(line, test.want) {
					t.Errorf("%s is missing in %s", test.want, line)
				}
			})
		})
	}
}

func TestARequestIDOfTheCallerIsMarked(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Post(f.Context(), "web", registrytest.Identified("mine", "true"))
		if line := f.Audit(); strings.Count(line, `"requestID"="mine" "auditID"=`) != 2 {
			t.Errorf("audit says %s", line)
		}
	})
	inFixture(t, func(f *fixture) {
		f.Web()
		f.Post(f.Context(), "web", registrytest.Command("true"))
		if line := f.Audit(); strings.Contains(line, "auditID") {
			t.Errorf("audit says %s", line)
		}
	})
}

func TestAProxiedRequestThatIsOneTooManyIsAuditedAsItself(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Web()
		release := make(chan struct{})
		f.Fake.OnExec(registrytest.Lasting(release))
		running := f.Later(f.Context(), "web", registrytest.Command("sleep"))
		synctest.Wait()
		f.Send(httptest.NewRequestWithContext(f.Context(), http.MethodDelete, "/pools/web/proxy/web-1/v1.41/containers/x?force=1", http.NoBody)).
			WantRefusal(f, http.StatusTooManyRequests)
		line := f.Audit()[strings.LastIndex(f.Audit(), "\n")+1:]
		for _, want := range []string{
			`"use refused"`, `"target"="web-1"`, `"transport"="http"`, `"method"="DELETE"`, `"path"="/v1.41/containers/x"`, `"code"=429`,
		} {
			if !strings.Contains(line, want) {
				t.Errorf("%s is missing in %s", want, line)
			}
		}
		close(release)
		<-running
	}, func(c *use.Config) { c.Limits.StreamsPerUser = 1 })
}
