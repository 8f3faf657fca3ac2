// Package proxy hands HTTP requests to the API of a target itself, such as that of a
// Docker engine or a Kubernetes cluster.
//
//	storage["connectionpools/proxy"] = proxy.New(gate)
//	...
//	next.ServeHTTP(w, proxy.HideQuery(req)) // in front of the generic server
//
// A request is passed on as it was sent: with the credentials of the target's connection,
// and with none of the client's. The answer is the target's, whatever its status; our own
// answers are Status objects with an outcome among their causes.
//
// Trade-offs: kube-apiserver in front of this server rewrites path and query in its own
// way, refuses redirects, takes Impersonate- headers for its own, and closes an upgraded
// connection as a whole when either side ends its half. That is why our own client asks
// for frames on it, and for redirects in another form. A direct request is not changed.
package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/halfclose"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/redirect"
	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/figures"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/traffic"
	"github.com/connpool/connpool/internal/registry/use"
	"github.com/connpool/connpool/internal/registry/validate"
	"github.com/connpool/connpool/internal/stream"
)

// New returns the REST storage of the subresource proxy.
func New(gate *use.Gate) *use.Subresource[*live.ProxyOptions] {
	return &use.Subresource[*live.ProxyOptions]{
		Object: &live.ProxyOptions{}, Options: &live.ProxyOptions{}, Subpath: "path",
		Methods: []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
		},
		Describe: describe,
		Admit: func(ctx context.Context, pool string) (*use.Use, use.ServeFunc[*live.ProxyOptions], error) {
			u, err := gate.Admit(ctx, pool, "proxy")
			return u, serve, err
		},
	}
}

// describe tells the audit what is asked of the target, although it may not be.
func describe(u *use.Use, req *http.Request, options *live.ProxyOptions) {
	location, target, _ := locate(req, options.Path)
	u.Target, u.Method, u.Path = target, req.Method, location.EscapedPath()
	if u.Transport = "http"; stream.IsUpgrade(req) {
		u.Transport = driver.Sanitize(strings.ToLower(req.Header.Get("Upgrade")))
	}
}

func serve(w http.ResponseWriter, req *http.Request, u *use.Use, options *live.ProxyOptions, responder rest.Responder) error {
	location, target, problems := locate(req, options.Path)
	if problems = append(problems, forbidImpersonation(req.Header)...); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	route, err := u.Route(req.Context(), field.NewPath("path"), target)
	if err != nil {
		return err
	}
	lease, err := u.Lease(req.Context(), route, fits)
	if err != nil {
		return err
	}
	proxier, ok := lease.Conn().(driver.Proxier)
	if !ok {
		lease.Release()
		return refusal.NotStarted(refusal.BadRequest, "", fmt.Sprintf(
			"target %s has no HTTP API that could be proxied; use exec", lease.Target.Name))
	}
	if stream.IsUpgrade(req) {
		w = halfclose.Accept(w, req)
	}
	r := &proxiedRequest{
		use: u, lease: lease, info: route.LeaseInfo(lease), proxier: proxier, location: location, responder: responder,
		renames: redirect.Take(req.Header),
	}
	r.serve(w, req)
	return nil
}

// fits says what of a proxied request a target does not have: an HTTP API.
func fits(target *v1alpha1.ConnectionTarget) field.ErrorList {
	kind := target.Spec.Type()
	switch kind {
	case v1alpha1.TargetTypeDocker, v1alpha1.TargetTypeKubernetes:
		return nil
	case v1alpha1.TargetTypeSSH:
		return field.ErrorList{field.Forbidden(field.NewPath("path"), validate.OfType(target.Name, kind)+
			", which has no HTTP API; use exec or portforward")}
	}
	return validate.UnknownType(target.Name, kind)
}

// unreadGrace is how long a client that does not read has when its time is over.
const unreadGrace = 5 * time.Second

// proxiedRequest is one proxied request and its answer. httputil.ReverseProxy moves
// both, in the goroutine of the request; this type has what ReverseProxy does not do.
type proxiedRequest struct {
	use       *use.Use
	info      use.LeaseInfo
	lease     poolset.Lease
	proxier   driver.Proxier
	location  *url.URL
	responder rest.Responder
	life      lifetime
	// renames says that the client asked for redirects that pass kube-apiserver.
	renames bool

	failure error
	status  int
	// whole reports whether the answer was read to its end. cut is why it was not.
	whole  bool
	cut    error
	answer io.Closer
	// delivery is that of the answer.
	delivery *delivery.Delivery
}

// serve answers the request and ends the lease. It panics with http.ErrAbortHandler
// when an answer that has begun cannot be completed, so that the client does not take
// its beginning for the whole.
func (r *proxiedRequest) serve(w http.ResponseWriter, req *http.Request) {
	ctx, stop := r.use.Watch(req.Context())
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(context.Canceled)
	r.life = lifetime{ctx: ctx, end: end}
	defer use.EndWith(r.lease.Conn(), end)() //nolint:contextcheck // the context of the connection tells of its end
	r.delivery = r.use.Gate.Deliveries.Begin(r.use.Owner(), func() { end(stream.ErrUnread) })
	defer r.delivery.Close()
	r.use.AuditStarted(r.info, nil, &r.life.bytes)
	began := time.Now()
	defer func() { r.finish(time.Since(began)) }()
	defer hurryWith(ctx, w)()
	// An answer may begin before the request has ended: engines report the progress of
	// what is being sent to them. HTTP/2 always allows that.
	_ = http.NewResponseController(w).EnableFullDuplex()
	proxy := httputil.ReverseProxy{
		Rewrite:        r.rewrite,
		Transport:      r,
		ModifyResponse: func(answer *http.Response) error { return r.answered(w.Header(), answer) },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { r.fail(w, err) },
		FlushInterval:  -1,
		BufferPool:     proxyBuffers{},
		ErrorLog:       log.New(io.Discard, "", 0), // what fails is in the audit line
	}
	proxy.ServeHTTP(&switchable{w, &r.life}, req.WithContext(ctx))
}

func (r *proxiedRequest) rewrite(request *httputil.ProxyRequest) {
	out := request.Out
	out.URL, out.Host, out.RequestURI = r.location, "", ""
	cleanRequest(out.Header)
	out.Trailer = nil // only their names would be sent, which can be those of any header
	if out.Body != nil {
		out.Body = countedBody{out.Body, traffic.Reader{Reader: out.Body, N: &r.life.bytes.In}}
	}
}

type countedBody struct {
	io.Closer
	traffic.Reader
}

// RoundTrip implements http.RoundTripper, once.
func (r *proxiedRequest) RoundTrip(out *http.Request) (*http.Response, error) {
	return r.proxier.Proxy(out)
}

// answered turns the answer of the target into the one that the client gets. A header
// of the target comes before one of this server with the same name.
func (r *proxiedRequest) answered(own http.Header, answer *http.Response) error {
	r.use.Figures.Answered()
	r.status, r.answer = answer.StatusCode, answer.Body
	cleanAnswer(answer.Header)
	removeSiteHeaders(answer.Trailer)
	redirect.Rename(answer.Header, r.renames)
	r.info.Announce(own, r.use.RequestID)
	for name := range answer.Header {
		own.Del(name)
	}
	if both, ok := answer.Body.(io.ReadWriteCloser); ok && answer.StatusCode == http.StatusSwitchingProtocols {
		answer.Body = &targetEnd{both, &r.life}
	} else {
		answer.Body = &answerBody{answer.Body, r, answer}
	}
	return nil
}

type answerBody struct {
	io.ReadCloser

	request *proxiedRequest
	answer  *http.Response
}

// Read implements io.Reader. What it returns is offered to the client until the next call.
func (b *answerBody) Read(p []byte) (int, error) {
	b.request.delivery.Taken()
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.request.delivery.Offered()
	}
	b.request.life.bytes.Out.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		b.request.whole = true
		removeSiteHeaders(b.answer.Trailer) // which has its values by now
	case err != nil:
		b.request.cut = err
	}
	return n, err
}

// fail answers a request that got no answer. When an upgrade fails halfway, the
// client cannot be answered any more.
func (r *proxiedRequest) fail(w http.ResponseWriter, err error) {
	if r.life.switched != nil {
		r.cut = err
		return
	}
	if r.status != 0 { // an answer that cannot be passed on
		err = &driver.Error{
			Reason: driver.ProtocolError, Stage: driver.StageStart, Started: true, Message: driver.Sanitize(err.Error()), Err: err,
		}
		r.status = 0
	}
	r.failure = err
	r.info.Announce(w.Header(), r.use.RequestID)
	r.responder.Error(r.refuse(err))
}

func (r *proxiedRequest) refuse(err error) error {
	reason, message := use.Why(r.life.ctx, err)
	if driver.OutcomeOf(err) == driver.NotStarted {
		return refusal.NotStarted(refusal.Unavailable, reason,
			fmt.Sprintf("the request was not sent to target %s: %s", r.info.Target, message))
	}
	with := refusal.BadGateway
	if reason == string(driver.Timeout) {
		with = refusal.GatewayTimeout
	}
	return refusal.Unknown(with, reason, fmt.Sprintf(
		"target %s may have received request %s and gave no answer: %s", r.info.Target, r.use.RequestID, message))
}

// finish writes how the request ended, and gives its lease back.
func (r *proxiedRequest) finish(duration time.Duration) {
	if r.answer != nil {
		_ = r.answer.Close() // an upgrade that failed leaves it open
	}
	problem := r.problem()
	result := use.Result{Lease: r.info, Duration: duration, HTTPStatus: r.status}
	result.Conclude(r.life.ctx, problem)
	if result.Completed() && !r.whole && r.life.switched == nil {
		result.Reason = figures.ReasonClientGone
	}
	r.use.AuditEnded(&result, &r.life.bytes)
	if stream.ClientLeft(context.Cause(r.life.ctx)) {
		problem = nil // the connection is not to blame
	}
	r.use.Gate.Config.Pools.Return(r.lease, problem)
}

// problem returns why it is unknown how the request ended; nil when it is known. Any
// status tells that, and so does a client that has seen enough.
func (r *proxiedRequest) problem() error {
	cause := context.Cause(r.life.ctx)
	switch {
	case r.failure != nil:
		return r.failure
	case r.status == 0: // a panic
		return &driver.Error{Reason: driver.ProtocolError, Started: true, Message: "the operator failed"}
	case r.whole, stream.ClientLeft(cause):
		return nil
	case cause != nil: // it may be that of a connection on which nothing ran
		ended := *driver.AsError(cause)
		ended.Started = true
		return &ended
	case r.cut != nil && r.life.switched == nil:
		return endedEarly(r.cut)
	}
	return nil
}

// hurryWith makes writes that are stuck fail once ctx has ended. undo takes that
// back, because the client's next request may come on the same connection.
func hurryWith(ctx context.Context, w http.ResponseWriter) (undo func()) {
	control := http.NewResponseController(w)
	hurried := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(hurried)
		grace := unreadGrace
		if errors.Is(context.Cause(ctx), stream.ErrUnread) {
			grace = 0
		}
		_ = control.SetWriteDeadline(time.Now().Add(grace))
	})
	return func() {
		if stop() {
			return
		}
		<-hurried
		_ = control.SetWriteDeadline(time.Time{})
	}
}

type proxyBuffers struct{}

const proxyBufferSize = 32 << 10

var proxyBufferPool = sync.Pool{New: func() any { return new([proxyBufferSize]byte) }}

// Get implements httputil.BufferPool.
func (proxyBuffers) Get() []byte {
	buffer, _ := proxyBufferPool.Get().(*[proxyBufferSize]byte)
	return buffer[:]
}

// Put implements httputil.BufferPool.
func (proxyBuffers) Put(buffer []byte) { proxyBufferPool.Put((*[proxyBufferSize]byte)(buffer)) }

type lifetime struct {
	// ctx ends with the request. end ends it for a cause, of which the first counts.
	ctx   context.Context //nolint:containedctx // a proxied request is as short as a call
	end   context.CancelCauseFunc
	bytes traffic.Bytes
	// switched is the client's end of a connection that speaks another protocol by now.
	switched *clientEnd
}

// vanish ends a request whose connection speaks another protocol, unless it has
// ended already.
func (l *lifetime) vanish(cause error) {
	l.end(cause)
	if l.switched != nil {
		l.switched.finish()
	}
}

func endedEarly(err error) error {
	return &driver.Error{
		Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the answer ended early", Err: err,
	}
}

// switchable is a response whose connection can become that of another protocol.
type switchable struct {
	http.ResponseWriter

	life *lifetime
}

// Unwrap lets http.ResponseController find what is inside.
func (s *switchable) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker. The connection ends with the request, and begins
// with what the client has sent ahead of the answer.
func (s *switchable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	taken := &clientEnd{Conn: conn, ahead: slices.Clone(ahead), life: s.life}
	s.life.switched = taken
	context.AfterFunc(s.life.ctx, taken.finish)
	return taken, buffers, nil
}

type clientEnd struct {
	net.Conn

	// ahead is what was read before the upgrade; only Read touches it.
	ahead []byte
	life  *lifetime
	half  sync.Once
}

func (c *clientEnd) Read(p []byte) (n int, err error) {
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.life.bytes.In.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		c.half.Do(c.awaitLeave)
	case err != nil:
		c.life.end(stream.ErrClientGone)
	}
	return n, err
}

// awaitLeave ends the request when the client leaves after it has ended its half. With
// the close_notify of TLS a client ends its half only, and still reads; when the
// connection below TLS ends, too, the client has left. Only this read notices that,
// because the proxy does not read from the client any more.
func (c *clientEnd) awaitLeave() {
	secured, ok := c.Conn.(interface{ NetConn() net.Conn })
	if !ok {
		return
	}
	go func() {
		_, _ = secured.NetConn().Read(make([]byte, 1))
		c.life.end(stream.ErrClientGone)
	}()
}

func (c *clientEnd) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.life.bytes.Out.Add(int64(n))
	if err != nil {
		c.life.end(stream.ErrClientGone)
	}
	return n, err
}

var errNoHalf = errors.New("the connection cannot end one direction only")

// CloseWrite ends one direction. Its error ends both.
func (c *clientEnd) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(end any) error {
	half, ok := end.(driver.HalfCloser)
	if !ok {
		return errNoHalf
	}
	return half.CloseWrite()
}

// finish ends the connection with its request. If the request was cut, the connection
// is reset: an orderly end would look like the end of the output.
func (c *clientEnd) finish() {
	if stream.ClientLeft(context.Cause(c.life.ctx)) {
		_ = c.Close()
		return
	}
	under := c.Conn
	if secured, ok := under.(interface{ NetConn() net.Conn }); ok {
		under = secured.NetConn()
	}
	if tcp, ok := under.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = under.Close()
}

type targetEnd struct {
	io.ReadWriteCloser

	life *lifetime
}

// Read implements io.Reader. A target that vanishes ends the request before the
// client can take that for the end of the output.
func (e *targetEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.life.vanish(endedEarly(err))
	}
	return n, err
}

// CloseWrite ends one direction. Its error ends both.
func (e *targetEnd) CloseWrite() error { return closeWrite(e.ReadWriteCloser) }
