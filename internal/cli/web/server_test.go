package web

import (
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/cli/web/shown"
)

// fixed is a cluster that does not change.
type fixed shown.Page

func (fixed) Wake() {}

func (f fixed) Look(_ context.Context, chosen shown.Choice) shown.Page {
	page := shown.Page(f)
	if chosen.Target != "" {
		page.Detail = &shown.Detail{Target: chosen.Target}
	}
	return page
}

func newTestServer() *server {
	return newServer(fixed{Pools: []shown.Pool{{Name: "web", Namespace: "shop"}}}, scope{Namespace: "shop", Program: "kubectl connpool"})
}

// get asks as the browser that has the session would, unless change says otherwise.
func get(s *server, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	request.Host = "127.0.0.1:4711"
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	request.AddCookie(&http.Cookie{Name: cookieName, Value: s.session})
	if change != nil {
		change(request)
	}
	out := httptest.NewRecorder()
	s.ServeHTTP(out, request)
	return out
}

func withoutSession(request *http.Request) {
	request.Header.Del("Cookie")
	request.Header.Set("Sec-Fetch-Site", "none")
}

func TestALinkOpensThePageOnce(t *testing.T) {
	s := newTestServer()
	link := s.entry()
	first := get(s, link, withoutSession)
	if first.Code != http.StatusOK || !strings.Contains(first.Body.String(), `url=`+s.home+`"`) {
		t.Fatalf("the link answers %d: %s", first.Code, first.Body)
	}
	cookies := first.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != s.home {
		t.Errorf("the cookie is %v, want one that only this path gets, and no script and no other site", cookies)
	}
	second := get(s, link, withoutSession)
	if second.Code != http.StatusForbidden || len(second.Result().Cookies()) > 0 || !strings.Contains(second.Body.String(), "works once") {
		t.Errorf("the second time the link answers %d: %s", second.Code, second.Body)
	}
	if page := get(s, s.home, nil); page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "<title>connpool</title>") {
		t.Errorf("the page answers %d", page.Code)
	}
}

func TestALinkThatIsOpenedAheadOfTimeStaysGood(t *testing.T) {
	s := newTestServer()
	link := s.entry()
	for _, change := range []func(*http.Request){
		func(r *http.Request) { withoutSession(r); r.Header.Set("Sec-Purpose", "prefetch;prerender") },
		func(r *http.Request) { withoutSession(r); r.Method = http.MethodHead },
		func(r *http.Request) { withoutSession(r); r.Host = "evil.example" },
	} {
		if out := get(s, link, change); out.Code == http.StatusOK {
			t.Errorf("answers %d: %s", out.Code, out.Body)
		}
	}
	if out := get(s, link, withoutSession); out.Code != http.StatusOK {
		t.Errorf("the link was used up: %d: %s", out.Code, out.Body)
	}
}

func TestOnlyTheBrowserThatHadTheLinkSeesThePage(t *testing.T) {
	s := newTestServer()
	tests := map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"the browser itself":                  {nil, http.StatusOK},
		"a program with the cookie":           {func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") }, http.StatusOK},
		"the address typed again":             {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, http.StatusOK},
		"another user of this machine":        {func(r *http.Request) { r.Header.Del("Cookie") }, http.StatusForbidden},
		"a guessed cookie":                    {func(r *http.Request) { r.Header.Set("Cookie", cookieName+"=guess") }, http.StatusForbidden},
		"a name that DNS leads here":          {func(r *http.Request) { r.Host = "rebind.example:4711" }, http.StatusForbidden},
		"a page of another site":              {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"a page of another port":              {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		"a page that names its origin":        {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, http.StatusForbidden},
		"a page without an origin":            {func(r *http.Request) { r.Header.Set("Origin", "null") }, http.StatusForbidden},
		"a request that would change a thing": {func(r *http.Request) { r.Method = http.MethodPost }, http.StatusMethodNotAllowed},
		"a question before such a request":    {func(r *http.Request) { r.Method = http.MethodOptions }, http.StatusMethodNotAllowed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{s.home, s.home + "state", s.home + "app.js"} {
				out := get(s, path, test.change)
				if out.Code != test.want {
					t.Errorf("%s: %d, want %d: %s", path, out.Code, test.want, out.Body)
				}
				if out.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: other pages may read the answer", path)
				}
			}
		})
	}
}

func TestThePathOfThePageIsSecret(t *testing.T) {
	s := newTestServer()
	for _, path := range []string{"/", "/state", "/app.js", "/page/state", "//state"} {
		if out := get(s, path, nil); out.Code == http.StatusOK {
			t.Errorf("%s answers %d", path, out.Code)
		}
	}
	if other := newTestServer(); other.home == s.home || other.session == s.session || other.token == s.token {
		t.Error("two servers have the same secret")
	}
}

func TestEveryAnswerLetsThePageRunOnlyItsOwnModules(t *testing.T) {
	s := newTestServer()
	for _, path := range []string{s.entry(), s.home, s.home + "state", s.home + "style.css", "/elsewhere"} {
		header := get(s, path, nil).Header()
		policy := header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s: %s", path, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, header)
		}
	}
}

func TestThePageIsWholeAndParsesNoText(t *testing.T) {
	// Addresses of others, text that is parsed as HTML or run as code, and code in HTML.
	dangerous := regexp.MustCompile(`https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|<script>|<style| style=| on[a-z]+=`)
	namespaceOfSVG := "http://www.w3.org/2000/svg"
	err := fs.WalkDir(embedded, "page", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(embedded, path)
		if found := dangerous.FindString(strings.ReplaceAll(string(content), namespaceOfSVG, "")); found != "" {
			t.Errorf("%s has %s", path, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStateThatThePageHasIsNotSentAgain(t *testing.T) {
	s := newTestServer()
	first := get(s, s.home+"state", nil)
	tag := first.Header().Get("ETag")
	if first.Code != http.StatusOK || tag == "" || first.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("the state answers %d: %v", first.Code, first.Header())
	}
	with := func(r *http.Request) { r.Header.Set("If-None-Match", tag) }
	if again := get(s, s.home+"state", with); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("the same state answers %d with %d bytes", again.Code, again.Body.Len())
	}
	if other := get(s, s.home+"state?target=web-1", with); other.Code != http.StatusOK {
		t.Errorf("another state answers %d", other.Code)
	}
}
