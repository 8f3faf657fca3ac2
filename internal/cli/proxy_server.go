package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/client"
)

// proxyServer hands requests that come to the local end to the target.
type proxyServer struct {
	server  http.Server
	end     *localEnd
	forward *httputil.ReverseProxy
	// cancel ends what was upgraded, which the server no longer knows.
	cancel context.CancelFunc

	mu      sync.Mutex // guards stopped, and that nothing begins to be served after it
	stopped bool
	serving sync.WaitGroup
}

// headerTimeout bounds how long somebody may take to say what he wants.
const headerTimeout = 30 * time.Second

func serveProxy(end *localEnd, api http.RoundTripper) *proxyServer {
	ctx, cancel := context.WithCancel(context.Background())
	quiet := log.New(io.Discard, "", 0)
	s := &proxyServer{end: end, cancel: cancel}
	s.forward = &httputil.ReverseProxy{
		Transport: api, Rewrite: rewriteNothing, ErrorHandler: answerFor, ErrorLog: quiet,
		FlushInterval: -1, // logs and watches are read as they come
	}
	s.server = http.Server{
		Handler: s, ErrorLog: quiet, ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.serving.Go(func() { _ = s.server.Serve(end) })
	return s
}

// stop ends all that runs, and waits for it.
func (s *proxyServer) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	_ = s.server.Close()
	s.serving.Wait()
}

// rewriteNothing hands a request on as it is; where to, the transport knows.
func rewriteNothing(request *httputil.ProxyRequest) {
	request.Out.URL.Scheme, request.Out.URL.Host = "http", "target"
	request.Out.URL.RawQuery = request.In.URL.RawQuery
}

// ServeHTTP hands a request on, unless it comes from somebody else.
func (s *proxyServer) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	if !s.begin() {
		return
	}
	defer s.serving.Done()
	if why := s.end.stranger(request); why != "" {
		answerStatus(out, http.StatusForbidden, metav1.StatusReasonForbidden, why)
		return
	}
	// Engines report the progress of what is being sent to them.
	_ = http.NewResponseController(out).EnableFullDuplex()
	s.forward.ServeHTTP(&hijackable{out}, request)
}

// hijackable is a response whose connection, when it is taken over, begins with
// what the tool has sent ahead of the answer.
type hijackable struct{ http.ResponseWriter }

// Unwrap lets http.ResponseController find what is inside.
func (h *hijackable) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Hijack implements http.Hijacker.
func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	half, ok := conn.(halfConn)
	if !ok {
		return conn, buffers, nil
	}
	ahead, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	return &begunConn{half, io.MultiReader(bytes.NewReader(slices.Clone(ahead)), conn)}, buffers, nil
}

// halfConn is a connection whose directions end one by one.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

type begunConn struct {
	halfConn

	reader io.Reader
}

// Read reads what was sent ahead, and then what comes.
func (c *begunConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// begin counts a request that is served, unless all is over.
func (s *proxyServer) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.serving.Add(1)
	}
	return !s.stopped
}

// stranger says why a request is refused: it has not the token of a private
// port, or it was made by a web page. Pages can send requests to ports of this
// machine, under any name that resolves to it, but neither change what their
// browser says of them, nor reach a socket.
func (e *localEnd) stranger(request *http.Request) string {
	if e.Addr().Network() == "unix" {
		return ""
	}
	switch header := request.Header; {
	case !isLoopbackName(request.Host):
		return "requests for the host " + oneLine(request.Host) + " are refused; this is " + loopback
	case header.Get("Origin") != "" || header.Get("Sec-Fetch-Site") != "":
		return "requests of web pages are refused"
	case e.token != "" && subtle.ConstantTimeCompare([]byte(header.Get("Authorization")), []byte("Bearer "+e.token)) != 1:
		return "the token of this proxy is missing: use the kubeconfig that it has written"
	}
	return ""
}

// isLoopbackName reports that a Host header names this machine by a name that no
// DNS server can give to anybody else.
func isLoopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.Contains([]string{"localhost", loopback, "::1"}, strings.Trim(host, "[]"))
}

// answerFor answers in the place of a target that was not asked, or gave no answer.
func answerFor(out http.ResponseWriter, _ *http.Request, err error) {
	code, reason := http.StatusBadGateway, metav1.StatusReasonServiceUnavailable
	if errors.Is(err, client.ErrNotProxied) {
		code, reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
	}
	answerStatus(out, code, reason, "connpool: "+oneLine(err.Error()))
}

// answerStatus answers in words that docker and kubectl understand alike.
func answerStatus(out http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(code)
	_ = json.NewEncoder(out).Encode(metav1.Status{ //nolint:errchkjson // who has left needs no answer
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}
