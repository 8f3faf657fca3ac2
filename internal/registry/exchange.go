package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/stream"
)

// unreadGrace is how long a client that does not read has to take what is left
// when its time is over.
const unreadGrace = 5 * time.Second

// exchange is one proxied request and its answer. httputil.ReverseProxy moves both,
// in the goroutine of the request; here is what it cannot know.
type exchange struct {
	*call

	held      held
	lease     poolset.Lease
	proxier   driver.Proxier
	location  *url.URL
	responder rest.Responder
	bytes     traffic
	// ctx ends with the exchange. leave ends it for a cause, of which the first
	// counts.
	ctx   context.Context //nolint:containedctx // an exchange is as short as a call
	leave context.CancelCauseFunc

	// failure is why there is no answer.
	failure error
	// status of the answer; 0 while there is none.
	status int
	// whole: the answer was read to its end. cut is why it could not be.
	whole bool
	cut   error
	// switched is the connection if it has become that of another protocol.
	switched *clientEnd
	answer   io.Closer
}

// serve answers the request and ends the lease. It panics with http.ErrAbortHandler when an answer
// that has begun cannot be completed, so that nobody takes its beginning for all.
func (x *exchange) serve(w http.ResponseWriter, req *http.Request) {
	ctx, stop := x.watch(req.Context(), x.permission)
	defer stop()
	ctx, x.leave = context.WithCancelCause(ctx)
	x.ctx = ctx
	defer x.leave(context.Canceled)
	defer endWith(x.lease.Conn(), x.leave)() //nolint:contextcheck // the context of the connection is the news
	x.auditStarted(x.held, nil)
	began := time.Now()
	defer func() { x.end(time.Since(began)) }()
	defer hurryWith(ctx, w)()
	// Answers may begin before the request has ended: engines report the progress
	// of what is being sent to them. Over HTTP/2 they always may.
	_ = http.NewResponseController(w).EnableFullDuplex()
	proxy := httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		ModifyResponse: func(answer *http.Response) error { return x.answered(w.Header(), answer) },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { x.fail(w, err) },
		FlushInterval:  -1,
		BufferPool:     proxyBuffers{},
		ErrorLog:       log.New(io.Discard, "", 0), // what fails is in the audit line
	}
	proxy.ServeHTTP(&switchable{w, x}, req.WithContext(ctx))
}

// rewrite makes the request that the target gets.
func (x *exchange) rewrite(request *httputil.ProxyRequest) {
	out := request.Out
	out.URL, out.Host, out.RequestURI = x.location, "", ""
	cleanRequest(out.Header)
	if out.Body != nil {
		out.Body = countedBody{out.Body, countedReader{out.Body, &x.bytes.in}}
	}
}

type countedBody struct {
	io.Closer
	countedReader
}

// RoundTrip implements http.RoundTripper, once.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) { return x.proxier.Proxy(out) }

// answered makes the answer that the client gets from that of the target, which
// comes first where both have something to say.
func (x *exchange) answered(own http.Header, answer *http.Response) error {
	x.status, x.answer = answer.StatusCode, answer.Body
	cleanAnswer(answer.Header)
	x.held.announce(own, x.requestID)
	for name := range answer.Header {
		own.Del(name)
	}
	if both, ok := answer.Body.(io.ReadWriteCloser); ok && answer.StatusCode == http.StatusSwitchingProtocols {
		answer.Body = &targetEnd{both, x}
	} else {
		answer.Body = &answerBody{answer.Body, x}
	}
	return nil
}

// answerBody notes how far an answer was read.
type answerBody struct {
	io.ReadCloser

	exchange *exchange
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.exchange.bytes.out.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		b.exchange.whole = true
	case err != nil:
		b.exchange.cut = err
	}
	return n, err
}

// fail answers a request that got no answer. When an upgrade fails halfway there
// is nobody left to be answered.
func (x *exchange) fail(w http.ResponseWriter, err error) {
	if x.switched != nil {
		x.cut = err
		return
	}
	if x.status != 0 { // an answer that cannot be passed on
		err = &driver.Error{Reason: driver.ProtocolError, Stage: driver.StageStart, Started: true, Message: plain(err.Error()), Err: err}
		x.status = 0
	}
	x.failure = err
	x.held.announce(w.Header(), x.requestID)
	x.responder.Error(x.refusal(err))
}

// refusal says what is known of a request that got no answer.
func (x *exchange) refusal(err error) error {
	reason, message := because(x.ctx, err)
	if driver.OutcomeOf(err) == driver.NotStarted {
		return refusedBeforeStart(unavailable, reason, fmt.Sprintf("the request was not sent to target %s: %s", x.held.target, message))
	}
	with := badGateway
	if reason == string(driver.Timeout) {
		with = gatewayTimeout
	}
	return refusedAfterStart(with, reason, fmt.Sprintf(
		"target %s may have received request %s and gave no answer: %s", x.held.target, x.requestID, message))
}

// end writes how the exchange ended, and gives its lease back.
func (x *exchange) end(duration time.Duration) {
	if x.answer != nil {
		_ = x.answer.Close() // an upgrade that failed leaves it open
	}
	problem := x.problem()
	e := ending{held: x.held, requestID: x.requestID, duration: duration, httpStatus: x.status}
	e.conclude(x.ctx, problem)
	if e.outcome == live.OutcomeCompleted && !x.whole && x.switched == nil {
		e.reason = reasonClientGone
	}
	x.auditEnded(e, &x.bytes)
	if hasLeft(context.Cause(x.ctx)) {
		problem = nil // which the connection is not to blame for
	}
	x.Pools.Return(x.lease, problem)
}

// reasonClientGone surfaces when a client does not wait for the end of an answer,
// as those do that follow a log.
const reasonClientGone = "ClientGone"

// problem is why nobody knows how the request ended; nil when it is known. A
// status tells, whatever it is, and so does a client that has seen enough.
func (x *exchange) problem() error {
	cause := context.Cause(x.ctx)
	switch {
	case x.failure != nil:
		return x.failure
	case x.status == 0: // a panic
		return &driver.Error{Reason: driver.ProtocolError, Started: true, Message: "the operator failed"}
	case x.whole, hasLeft(cause):
		return nil
	case cause != nil: // which may be that of a connection on which nothing ran
		ended := *driver.AsError(cause)
		ended.Started = true
		return &ended
	case x.cut != nil && x.switched == nil:
		return endedEarly(x.cut)
	}
	return nil
}

// vanish ends an exchange by another protocol, unless it has ended already.
func (x *exchange) vanish(cause error) {
	x.leave(cause)
	if x.switched != nil {
		x.switched.finish()
	}
}

// hasLeft tells a client that has seen enough from all other ends.
func hasLeft(cause error) bool {
	return errors.Is(cause, context.Canceled) || errors.Is(cause, stream.ErrClientGone)
}

func endedEarly(err error) error {
	return &driver.Error{
		Reason: driver.Unreachable, Stage: driver.StageRun, Started: true, Message: "the answer ended early", Err: err,
	}
}

// hurryWith lets writes fail that are stuck when ctx has ended. The result undoes
// it, since the client's next request may come on the same connection.
func hurryWith(ctx context.Context, w http.ResponseWriter) (undo func()) {
	control := http.NewResponseController(w)
	hurried := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(hurried)
		_ = control.SetWriteDeadline(time.Now().Add(unreadGrace))
	})
	return func() {
		if stop() {
			return
		}
		<-hurried
		_ = control.SetWriteDeadline(time.Time{})
	}
}

// proxyBuffers lends the buffers that move answers.
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
