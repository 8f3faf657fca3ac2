package use_test

import (
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/registry/registrytest"
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
				if strings.Contains(line, "canary-[31margument") != commands {
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
		if line := f.Audit(); f.Lines() != 1 || !strings.Contains(line, `"code"=404`) || strings.ContainsAny(line, "\n\x1b") || strings.Contains(line, `\n`) {
			t.Errorf("audit says %s", line)
		}
	})
}
