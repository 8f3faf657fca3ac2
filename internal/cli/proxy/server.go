package proxy

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
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/listen"
)

// proxyServer passes requests that come to the local end on to the target.
type proxyServer struct {
	server  http.Server
	end     *localEnd
	forward *httputil.ReverseProxy
	// cancel ends upgraded connections, which the server no longer knows.
	cancel context.CancelFunc

	mu      sync.Mutex // guards stopped, after which no request may begin
	stopped bool
	serving sync.WaitGroup
}

// headerTimeout bounds how long a client may take to send its headers.
const headerTimeout = 30 * time.Second

func serveProxy(end *localEnd, api http.RoundTripper) *proxyServer {
	ctx, cancel := context.WithCancel(context.Background())
	quiet := log.New(io.Discard, "", 0)
	s := &proxyServer{end: end, cancel: cancel}
	s.forward = &httputil.ReverseProxy{
		Transport: api, Rewrite: rewriteNothing, ErrorHandler: answerFor, ErrorLog: quiet,
		FlushInterval: -1, // logs and watches arrive as they are written
	}
	s.server = http.Server{
		Handler: s, ErrorLog: quiet, ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.serving.Go(func() { _ = s.server.Serve(end) })
	return s
}

// stop ends all requests and waits for their end.
func (s *proxyServer) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	_ = s.server.Close()
	s.serving.Wait()
}

// rewriteNothing passes a request on as it is. The transport knows where to.
func rewriteNothing(request *httputil.ProxyRequest) {
	request.Out.URL.Scheme, request.Out.URL.Host = "http", "target"
	request.Out.URL.RawQuery = request.In.URL.RawQuery
}

// ServeHTTP passes a request on, unless it is refused.
func (s *proxyServer) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	if !s.begin() {
		return
	}
	defer s.serving.Done()
	if why := s.end.rejectReason(request); why != "" {
		answerStatus(out, http.StatusForbidden, metav1.StatusReasonForbidden, why)
		return
	}
	// Engines report progress while a tool is still sending.
	_ = http.NewResponseController(out).EnableFullDuplex()
	s.forward.ServeHTTP(&hijackable{out}, request)
}

// hijackable is a response whose connection, when it is hijacked, begins with what
// the tool has sent ahead of the answer.
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

// halfConn is a connection whose directions can be closed one by one.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// begunConn is a connection of which the first bytes were already read.
type begunConn struct {
	halfConn

	reader io.Reader
}

// Read reads what was sent ahead, and then from the connection.
func (c *begunConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// begin counts a request that is served. It reports false after stop.
func (s *proxyServer) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.serving.Add(1)
	}
	return !s.stopped
}

// rejectReason returns why a request is refused, or "": it lacks the token of a
// private port, or a web page made it. Pages can send requests to the ports of
// this machine, under any name that resolves to it. They can neither change the
// headers that their browser adds, Host, Origin and Sec-Fetch-Site, nor reach a socket.
func (e *localEnd) rejectReason(request *http.Request) string {
	if e.Addr().Network() == "unix" {
		return ""
	}
	switch header := request.Header; {
	case !listen.IsLoopbackHost(request.Host):
		return "requests for the host " + display.OneLine(request.Host) + " are refused; this is " + listen.Loopback
	case header.Get("Sec-Fetch-Site") != "" || !listen.IsOwnOrigin(request):
		return "requests from web pages are refused"
	case e.token != "" && subtle.ConstantTimeCompare([]byte(header.Get("Authorization")), []byte("Bearer "+e.token)) != 1:
		return "the token of this proxy is missing: use the kubeconfig that it wrote"
	}
	return ""
}

// answerFor answers in the place of a target that was not asked or did not answer.
func answerFor(out http.ResponseWriter, _ *http.Request, err error) {
	code, reason := http.StatusBadGateway, metav1.StatusReasonServiceUnavailable
	if errors.Is(err, client.ErrNotProxied) {
		code, reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
	}
	answerStatus(out, code, reason, "connpool: "+display.OneLine(err.Error()))
}

// answerStatus answers with a Status, which docker and kubectl both print.
func answerStatus(out http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(code)
	_ = json.NewEncoder(out).Encode(metav1.Status{ //nolint:errchkjson // a client that has left needs no answer
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}
