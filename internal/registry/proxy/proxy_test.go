package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/redirect"
	"github.com/connpool/connpool/internal/registry/registrytest"
	"github.com/connpool/connpool/internal/registry/use"
)

func TestWhatTheProxyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		code  int
		words string
	}{
		"an ssh target":            {"/web-1/version", 400, "type ssh, which has no HTTP API"},
		"no target":                {"", 400, "name a target"},
		"no target but a slash":    {"/", 400, "name a target"},
		"an unknown target":        {"/other/version", 404, "other"},
		"a target of another pool": {"/db-1/version", 404, "has no target"},
		"two dots":                 {"/build-1/../../x", 400, ".."},
		"two dots at the end":      {"/build-1/..", 400, ".."},
		"one dot":                  {"/./build-1", 400, ".."},
		"encoded dots":             {"/build-1/%2e%2E/x", 400, ".."},
		"an encoded slash":         {"/build-1%2Fversion", 400, "encoded"},
		"an encoded backslash":     {"/build-1/%5cx", 400, "encoded"},
		"encoded twice":            {"/build-1/%252e%252e/x", 400, "encoded"},
		"an encoded NUL":           {"/build-1/x%00", 400, "encoded"},
		"a backslash":              {"/build-1/x\\y", 400, "backslash"},
		"two slashes":              {"/build-1//x", 400, "two slashes"},
		"two slashes first":        {"//build-1/x", 400, "two slashes"},
		"two slashes at the end":   {"/build-1/x//", 400, "two slashes"},
		"an absolute URI":          {"/http://example.com/", 400, "absolute URI"},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Engine(registrytest.InMemory(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
				f.Target("web-1", "web")
				f.Target("db-1", "db", registrytest.Docker)
				req := httptest.NewRequestWithContext(f.Context(), http.MethodDelete, "/pools/web/proxy"+test.path, http.NoBody)
				f.Send(req).WantRefusal(f, test.code, test.words)
			})
		})
	}
}

func TestAnAbsoluteURIIsRefused(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Engine(nil)
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "http://example.com"+registrytest.ProxyPath+"/x", http.NoBody)
		f.Send(req).WantRefusal(f, http.StatusBadRequest, "absolute URI")
	})
}

// The target gets exactly what was authorized, as the client wrote it.
func TestWhatArrivesAtTheTarget(t *testing.T) {
	for name, test := range map[string]struct{ path, want string }{
		"a path":                           {"/v1.41/containers/json", "/v1.41/containers/json"},
		"nothing":                          {"", "/"},
		"a slash":                          {"/", "/"},
		"a slash at the end":               {"/apis/", "/apis/"},
		"a query":                          {"/x?b=2&a=1&b=1", "/x?b=2&a=1&b=1"},
		"a query named path":               {"/archive?path=/etc/../x", "/archive?path=/etc/../x"},
		"an empty query":                   {"/x?", "/x?"},
		"a query that is no list of pairs": {"/x?a;b&%zz", "/x?a;b&%zz"},
		"a query with encoded slashes":     {"/x?q=%2Fa%2e%2e", "/x?q=%2Fa%2e%2e"},
		"an encoded colon":                 {"/images/busybox%3Alatest/json", "/images/busybox%3Alatest/json"},
		"a colon":                          {"/api/v1/services/https:web:443/proxy", "/api/v1/services/https:web:443/proxy"},
		"an encoded letter":                {"/%61", "/%61"},
		"a space":                          {"/a%20b", "/a%20b"},
		"letters of the world":             {"/%C3%A9", "/%C3%A9"},
		"its own name twice":               {"/proxy/build-1/proxy/build-1/", "/proxy/build-1/proxy/build-1/"},
	} {
		t.Run(name, func(t *testing.T) {
			for way, prepare := range map[string]func(*http.Request) *http.Request{
				"as it came":                        func(r *http.Request) *http.Request { return r },
				"with its query out of their sight": HideQuery,
			} {
				t.Run(way, func(t *testing.T) {
					inFixture(t, func(f *fixture) {
						got := ""
						f.Engine(registrytest.InMemory(func(_ http.ResponseWriter, r *http.Request) {
							got = r.URL.RequestURI()
							if r.URL.Host != "" || r.Host != "" || r.URL.Scheme != "" {
								t.Errorf("it is for %s and %s", r.Host, r.URL)
							}
						}))
						req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+test.path, http.NoBody)
						f.ServeHTTP(httptest.NewRecorder(), prepare(req))
						if got != test.want {
							t.Errorf("%s arrived, want %s", got, test.want)
						}
					})
				})
			}
		})
	}
}

func TestAHiddenQueryIsNotLogged(t *testing.T) {
	req := HideQuery(httptest.NewRequest(http.MethodPost, "/apis/x?dryRun=All", http.NoBody))
	if req.RequestURI != "/apis/x" || req.URL.String() != "/apis/x" {
		t.Errorf("left are %s and %s", req.RequestURI, req.URL)
	}
}

// A target sees nothing that identifies a client to this server.
func TestCredentialsStayHere(t *testing.T) {
	inFixture(t, func(f *fixture) {
		var got string
		f.Engine(registrytest.InMemory(func(_ http.ResponseWriter, r *http.Request) {
			dump, _ := httputil.DumpRequest(r, true)
			got = string(dump)
		}))
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody)
		registrytest.Upgrading(req)
		for _, name := range []string{
			"Authorization", "Cookie", "Proxy-Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-User",
			"X-Remote-User", "X-Remote-Group", "X-Remote-Uid", "X-Remote-Extra-Scopes",
			"X_Remote_User", "x_remote-extra-scopes", "X.Remote.User", "X_Forwarded_For", "Proxy_Authorization", "authorization",
		} {
			req.Header.Add(name, "canary")
			req.Header.Add(name, "canary again")
		}
		req.Header.Set(protocolsHeader, bearerProtocol+"canary, v5.channel.k8s.io")
		req.Header.Add(protocolsHeader, "v4.channel.k8s.io,"+bearerProtocol+"canary")
		for name, value := range map[string]string{"X-Registry-Auth": "kept", "Accept": "application/json", "X-Docker-Expose-Session-Uuid": "kept", "X-Remotely": "kept"} {
			req.Header.Set(name, value)
		}
		f.ServeHTTP(httptest.NewRecorder(), req)
		if strings.Contains(got, "canary") {
			t.Errorf("the target sees %s", got)
		}
		for _, want := range []string{
			"X-Registry-Auth: kept", "X-Docker-Expose-Session-Uuid: kept", "X-Remotely: kept", "Accept: application/json", "Upgrade: websocket", "Connection: Upgrade",
			"Sec-Websocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("the target does not see %s: %s", want, got)
			}
		}
	})
}

func TestImpersonationIsRefused(t *testing.T) {
	for _, name := range []string{"Impersonate-User", "impersonate-group", "Impersonate-Extra-Scopes", "Impersonate-Uid", "Impersonate_User", "IMPERSONATE_GROUP", "Impersonate.User"} {
		inFixture(t, func(f *fixture) {
			f.Engine(registrytest.InMemory(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
			req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody)
			req.Header.Set(name, "canary")
			got := f.Send(req)
			got.WantRefusal(f, http.StatusBadRequest, "headers["+http.CanonicalHeaderKey(name)+"]", "leave the header out")
			if strings.Contains(got.Status.Message, "canary") {
				t.Error(got.Status.Message)
			}
		})
	}
}

func TestAnswersPassAsTheyAre(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		header http.Header
		gone   []string
	}{
		"a success":              {200, http.Header{"Api-Version": {"1.41"}, "X-Twice": {"a", "b"}}, nil},
		"the target's own 401":   {401, http.Header{}, []string{"Www-Authenticate"}},
		"the target's own 429":   {429, http.Header{"Retry-After": {"7"}}, nil},
		"a redirect":             {307, http.Header{"Location": {"https://elsewhere.example/x?y"}}, nil},
		"a redirect to its path": {301, http.Header{"Location": {"/containers/"}}, nil},
		"nothing":                {204, http.Header{}, nil},
		"not modified":           {304, http.Header{"Etag": {`"x"`}}, nil},
		"what governs clients": {200, http.Header{"Content-Type": {"text/html"}}, []string{
			"Set-Cookie", "Access-Control-Allow-Origin", "Strict-Transport-Security", "Alt-Svc", "Clear-Site-Data",
			"Refresh", "Service-Worker-Allowed", "Access-Control-Max-Age", "Report-To", "Nel", "Accept-Ch", "Content-Security-Policy-Report-Only",
		}},
		"a page":                 {200, http.Header{"Content-Type": {"text/html"}, "Content-Security-Policy": {"sandbox"}, "X-Content-Type-Options": {"nosniff"}}, nil},
		"what we would say, too": {200, http.Header{"Cache-Control": {"theirs"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			proxied(t, func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), test.header)
				w.Header().Set("Content-Security-Policy", "script-src *")
				w.Header().Set("X-Content-Type-Options", "theirs")
				w.Header().Set("Connpool-Target", "theirs")
				for _, name := range test.gone {
					w.Header().Set(name, "x")
				}
				w.WriteHeader(test.status)
				if test.status == 200 || test.status >= 400 {
					_, _ = io.WriteString(w, "the body")
				}
			}, func(_ *fixture, server *httptest.Server) {
				got := ask(t, server, http.MethodGet, "/x")
				if hasBody := test.status == 200 || test.status >= 400; got.status != test.status || (got.body == "the body") != hasBody {
					t.Errorf("answered %d %q", got.status, got.body)
				}
				for name, want := range test.header {
					if !slices.Equal(got.header[name], want) {
						t.Errorf("%s is %q, want %q", name, got.header[name], want)
					}
				}
				for _, name := range test.gone {
					if got.header[name] != nil {
						t.Errorf("%s is %q", name, got.header[name])
					}
				}
				if got.header.Get("Content-Security-Policy") != "sandbox" || got.header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("a browser may run it: %v", got.header)
				}
				if got.header.Get("Connpool-Target") == "theirs" {
					t.Error("the target says which target it is")
				}
				if got.header.Get("Connpool-Connection") == "" || got.header.Get("Connpool-Request-Id") == "" || got.header.Get("Connpool-Target") == "" {
					t.Errorf("headers are %v", got.header)
				}
				if _, ours := test.header["Retry-After"]; !ours && got.header.Get("Retry-After") != "" {
					t.Error("Retry-After was added")
				}
			})
		})
	}
}

func TestTrailersCarryNothingBetweenClientAndTarget(t *testing.T) {
	arrived := make(chan []string, 1)
	proxied(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- slices.Sorted(maps.Keys(r.Trailer))
		w.Header().Set("Trailer", "Set-Cookie, X-Sum")
		_, _ = io.WriteString(w, "the body")
		w.Header().Set("Set-Cookie", "canary=1")
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"Connpool-Target", "theirs")
	}, func(_ *fixture, server *httptest.Server) {
		body, sent := io.Pipe()
		go func() {
			_, _ = io.WriteString(sent, "input")
			_ = sent.Close()
		}()
		response := open(t, server, http.MethodPost, "/x", body, func(r *http.Request) {
			r.Trailer = http.Header{"Impersonate-User": {"root"}, "X_remote_user": {"root"}}
		})
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != "the body" {
			t.Errorf("answered %q, %v", got, err)
		}
		if names := <-arrived; len(names) > 0 {
			t.Errorf("the target sees the trailers %v", names)
		}
		if got := response.Trailer; got.Get("Set-Cookie") != "" || got.Get("Connpool-Target") != "" || got.Get("X-Sum") != "7" {
			t.Errorf("the client sees the trailers %v", got)
		}
	})
}

func TestARedirectIsRenamedOnlyIfTheClientAsks(t *testing.T) {
	target := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Connpool-Rename-Location") != "" {
			t.Error("the target sees the wish")
		}
		w.Header().Set("Location", "/login")
		w.Header().Set("Connpool-Location", "theirs")
		w.WriteHeader(http.StatusFound)
	}
	proxied(t, target, func(_ *fixture, server *httptest.Server) {
		got := ask(t, server, http.MethodGet, "/x")
		if got.status != http.StatusFound || got.header.Get("Location") != "/login" || got.header.Get("Connpool-Location") != "" {
			t.Errorf("to a stock client: %d %v", got.status, got.header)
		}
		got = ask(t, server, http.MethodGet, "/x", func(r *http.Request) { redirect.Ask(r.Header) })
		if got.status != http.StatusFound || got.header.Get("Location") != "" || got.header.Get("Connpool-Location") != "/login" {
			t.Errorf("to our client: %d %v", got.status, got.header)
		}
	})
}

func TestEveryMethodIsPassedOn(t *testing.T) {
	proxied(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Method", r.Method) }, func(_ *fixture, server *httptest.Server) {
		for _, method := range New(nil).ConnectMethods() {
			if got := ask(t, server, method, "/x"); got.header.Get("Method") != method {
				t.Errorf("%s arrived as %s", method, got.header.Get("Method"))
			}
		}
	})
}

// refusalOf reads a Status of this server.
func refusalOf(t testing.TB, got answered) metav1.Status {
	t.Helper()
	var status metav1.Status
	if err := json.Unmarshal([]byte(got.body), &status); err != nil || int(status.Code) != got.status {
		t.Errorf("answered %d %q, %v", got.status, got.body, err)
	}
	return status
}

func TestWhyThereIsNoAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		code    int
		outcome live.Outcome
		reason  string
		words   []string
	}{
		"it was not sent": {
			&driver.Error{Reason: driver.Unreachable, Stage: driver.StageConnect, Message: "connection refused"},
			503, live.OutcomeNotStarted, "Unreachable",
			[]string{"was not sent to target build-1", "connection refused"},
		},
		"it was not sent in time": {
			&driver.Error{Reason: driver.Timeout, Message: "no answer"}, 503, live.OutcomeNotStarted, "Timeout", []string{"was not sent"},
		},
		"it may have been received": {
			&driver.Error{Reason: driver.Unreachable, Started: true, Message: "connection reset"},
			502, live.OutcomeUnknown, "Unreachable",
			[]string{"may have received request", "connection reset"},
		},
		"it got no answer in time": {
			&driver.Error{Reason: driver.Timeout, Started: true, Message: "no answer"}, 504, live.OutcomeUnknown, "Timeout", []string{"gave no answer"},
		},
		"an error without a class": {errors.New("oh"), 502, live.OutcomeUnknown, "ProtocolError", []string{"oh"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFixture(t, func(f *fixture) {
				f.Engine(registrytest.Unanswering(func(*http.Request) error { return test.err }))
				got := f.Send(httptest.NewRequestWithContext(f.Context(), http.MethodPost, registrytest.ProxyPath+"/x?secret=canary", http.NoBody))
				got.WantRefusal(f, test.code, test.words...)
				all := registrytest.Causes(got.Status)
				if all[live.CauseOutcome] != string(test.outcome) || all[live.CauseReason] != test.reason || got.Status.Reason == "" {
					t.Errorf("status is %+v", got.Status)
				}
				if got.Header.Get("Connpool-Target") != "build-1" {
					t.Errorf("headers are %v", got.Header)
				}
				for _, want := range []string{
					`"outcome"="` + string(test.outcome) + `"`, `"reason"="` + test.reason + `"`, `"method"="POST" "path"="/x"`, `"transport"="http"`,
				} {
					if !strings.Contains(f.Audit(), want) {
						t.Errorf("audit does not contain %s: %s", want, f.Audit())
					}
				}
				synctest.Wait()
				if strings.Contains(f.Audit(), "canary") || f.Set.Connections("")[0].Leases != 0 {
					t.Errorf("audit says %s", f.Audit())
				}
			})
		})
	}
}

func TestOurRefusalsAreToldFromThoseOfTheTarget(t *testing.T) {
	proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}`)
	}, func(f *fixture, server *httptest.Server) {
		theirs := ask(t, server, http.MethodGet, "/x")
		if status := refusalOf(t, theirs); len(registrytest.Causes(status)) != 0 || theirs.header.Get("Connpool-Connection") == "" {
			t.Errorf("%+v, %v", status, theirs.header)
		}
		f.Authorizer.DecideBy(registrytest.OnlyGet)
		ours := ask(t, server, http.MethodGet, "/x")
		if status := refusalOf(t, ours); !strings.Contains(status.Message, "connectionpools/proxy") || ours.header.Get("Connpool-Connection") != "" {
			t.Errorf("%+v, %v", status, ours.header)
		}
		if !strings.Contains(f.Audit(), `"outcome"="Completed" "reason"="" "bytesIn"=0 "bytesOut"=68 "status"=403`) {
			t.Errorf("audit says %s", f.Audit())
		}
	})
}

func TestATargetWhoseDriverHasNoAPI(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Connect(f.Target("build-1", "web", registrytest.Docker), f.Pool("web", registrytest.LeastLoaded))
		req := httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody)
		f.Send(req).WantRefusal(f, http.StatusBadRequest, "target build-1 has no HTTP API")
		if leases := f.Set.Connections("")[0].Leases; leases != 0 {
			t.Errorf("%d leases are out", leases)
		}
	})
}

func TestAPanicGivesTheLeaseBack(t *testing.T) {
	inFixture(t, func(f *fixture) {
		f.Engine(registrytest.Unanswering(func(*http.Request) error { panic("canary") }))
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			f.Send(httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody))
		}()
		synctest.Wait()
		if leases := f.Set.Connections("")[0].Leases; leases != 0 || !f.Idle() {
			t.Errorf("%d leases are out, nothing is used: %t", leases, f.Idle())
		}
		if !strings.Contains(f.Audit(), `"outcome"="Unknown"`) {
			t.Errorf("audit says %s", f.Audit())
		}
	})
}

func TestARequestWithoutABodyIsSentOnce(t *testing.T) {
	inFixture(t, func(f *fixture) {
		sent := 0
		f.Engine(registrytest.Unanswering(func(r *http.Request) error {
			sent++
			if r.GetBody != nil {
				t.Error("it could be sent again")
			}
			return &driver.Error{Reason: driver.Unreachable, Message: "refused"}
		}))
		f.Send(httptest.NewRequestWithContext(f.Context(), http.MethodGet, registrytest.ProxyPath+"/x", http.NoBody)).WantRefusal(f, 503)
		if sent != 1 {
			t.Errorf("it was sent %d times", sent)
		}
	})
}

func TestProxiedRequestsAreLimited(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{})
	proxied(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }, func(_ *fixture, server *httptest.Server) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ask(t, server, http.MethodGet, "/x")
		}()
		<-arrived
		got := ask(t, server, http.MethodGet, "/y")
		if status := refusalOf(t, got); got.status != http.StatusTooManyRequests || !strings.Contains(status.Message, "--max-streams-per-user") {
			t.Errorf("answered %+v", status)
		}
		close(release)
		<-done
	}, func(c *use.Config) { c.Limits.StreamsPerUser = 1 })
}
