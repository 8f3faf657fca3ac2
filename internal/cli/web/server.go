package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/cli/listen"
	"github.com/connpool/connpool/internal/cli/web/feed"
	"github.com/connpool/connpool/internal/cli/web/shown"
)

//go:embed page
var embedded embed.FS

// headerTimeout bounds how long a client may take to send its headers.
const headerTimeout = 30 * time.Second

// cookieName of the session.
const cookieName = "connpool"

// scope says what the page is about.
type scope struct {
	Context   string `json:"context,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Program is what the user types for the plugin.
	Program string `json:"program"`
}

// looker is the source of what is shown.
type looker interface {
	Wake()
	Look(ctx context.Context, chosen shown.Choice) shown.Page
}

// server serves the page to the one browser that had the link.
type server struct {
	pools looker
	scope scope
	// home is the secret path of the page, with a slash at both ends.
	home string
	// session is the value of the cookie.
	session string
	files   http.Handler

	mu sync.Mutex // guards token, which is "" once it was taken
	// token opens the page once.
	token string
}

func newServer(pools looker, scope scope) *server {
	page, err := fs.Sub(embedded, "page")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	s := &server{pools: pools, scope: scope, home: "/" + rand.Text() + "/", session: rand.Text(), token: rand.Text()}
	s.files = http.StripPrefix(s.home, http.FileServerFS(page))
	return s
}

// entry returns the path of the link, with the token.
func (s *server) entry() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "/?token=" + s.token
}

// serve serves on a listener until stop, and keeps the feed running.
func (s *server) serve(listener net.Listener, pools *feed.Feed) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	local := http.Server{
		Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = local.Serve(listener) })
	serving.Go(func() { pools.Run(ctx) })
	return func() {
		cancel()
		_ = local.Close()
		serving.Wait()
	}
}

// ServeHTTP answers a request, unless it is refused.
func (s *server) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	secure(out.Header())
	switch {
	case !listen.IsLoopbackHost(request.Host):
		refuse(out, http.StatusForbidden, "Requests for other hosts are refused; this is "+listen.Loopback+".")
	case !listen.IsOwnOrigin(request):
		refuse(out, http.StatusForbidden, "Requests of other web pages are refused.")
	case request.Method != http.MethodGet:
		out.Header().Set("Allow", http.MethodGet)
		refuse(out, http.StatusMethodNotAllowed, "This page can only be read.")
	case request.URL.Path == "/" && request.URL.Query().Has("token"):
		s.enter(out, request)
	case isOfAnotherPage(request):
		refuse(out, http.StatusForbidden, "Requests of other web pages are refused.")
	case !s.hasSession(request):
		refuse(out, http.StatusForbidden, s.wayIn())
	case request.URL.Path == s.home+"state":
		s.state(out, request)
	default:
		s.files.ServeHTTP(out, request)
	}
}

// secure lets a page run nothing but its own modules, talk to no other server, and be
// part of no other page.
func secure(header http.Header) {
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// isOfAnotherPage reports whether a browser says that another page made a request.
func isOfAnotherPage(request *http.Request) bool {
	site := request.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// enter takes the token and lets the browser in. The browser then goes on by itself:
// after a redirect it would still be on its way from where the link was, and would
// not send the cookie.
func (s *server) enter(out http.ResponseWriter, request *http.Request) {
	if request.Header.Get("Sec-Purpose") != "" {
		refuse(out, http.StatusForbidden, "The link is not opened ahead of time.")
		return
	}
	if !s.take(request.URL.Query().Get("token")) {
		refuse(out, http.StatusForbidden, s.wayIn())
		return
	}
	s.pools.Wake()
	http.SetCookie(out, &http.Cookie{ //nolint:gosec // Secure is for https, which a loopback address has no need of
		Name: cookieName, Value: s.session, Path: s.home, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(out, `<!doctype html><html lang="en"><title>connpool</title>`+
		`<link rel="icon" href="`+s.home+`icon.svg"><meta http-equiv="refresh" content="0;url=`+s.home+`">`)
}

// take reports whether the token is the right one and was not taken before.
func (s *server) take(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || !equal(token, s.token) {
		return false
	}
	s.token = ""
	return true
}

func (s *server) hasSession(request *http.Request) bool {
	cookie, err := request.Cookie(cookieName)
	return err == nil && equal(cookie.Value, s.session)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *server) wayIn() string {
	return "This page opens with the link that `" + s.scope.Program + " web` prints. The link works once: " +
		"if it was opened before, end the command with Ctrl-C and start it again."
}

// state answers with what is known now, or that it is what the page has already.
func (s *server) state(out http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	page := s.pools.Look(request.Context(), shown.Choice{
		Namespace: query.Get("namespace"), Pool: query.Get("pool"), Target: query.Get("target"),
	})
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		scope
		shown.Page
	}{s.scope, page}); err != nil {
		refuse(out, http.StatusInternalServerError, "The state cannot be encoded: "+err.Error())
		return
	}
	sum := sha256.Sum256(body.Bytes())
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	header := out.Header()
	header.Set("ETag", tag)
	header.Set("Cache-Control", "no-cache")
	if request.Header.Get("If-None-Match") == tag {
		out.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", "application/json")
	_, _ = out.Write(body.Bytes())
}

func refuse(out http.ResponseWriter, code int, why string) {
	out.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out.WriteHeader(code)
	_, _ = io.WriteString(out, why+"\n")
}
