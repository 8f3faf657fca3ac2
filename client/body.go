package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
)

// errNothingSent means that nothing of a request was sent.
var errNothingSent = errors.New("the connection was closed before the request was sent")

// onceBody is the body of a request that is sent at most once. It knows whether
// net/http has taken all of it: until then the server cannot have started the
// command.
type onceBody struct {
	mu       sync.Mutex
	unread   *bytes.Reader
	withheld bool
	// multiplexed means that the connection carries other requests too (HTTP/2).
	multiplexed bool
}

// newRequest returns a request, and its body with an object. Without an object, the body
// is nil.
func newRequest(ctx context.Context, method string, u *url.URL, object any) (*http.Request, *onceBody, error) {
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/json")
	if object == nil {
		return request, nil, nil
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, nil, err
	}
	body := &onceBody{unread: bytes.NewReader(data)}
	request.Header.Set("Content-Type", "application/json")
	request.Body, request.ContentLength = body, int64(len(data))
	return request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: body.gotConn})), body, nil
}

// once sends a request at most once.
//
// When an idle connection turns out to be closed and nothing was written to it,
// net/http's transport calls GetBody to get the body again. GetBody returns
// errNothingSent instead, which becomes the error of the request.
type once struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (o once) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		request = request.WithContext(request.Context()) // a copy, since the request is the caller's
		request.GetBody = func() (io.ReadCloser, error) { return nil, errNothingSent }
	}
	return o.RoundTripper.RoundTrip(request)
}

// WrappedRoundTripper lets apimachinery find the transport.
func (o once) WrappedRoundTripper() http.RoundTripper { return o.RoundTripper }

func (b *onceBody) gotConn(info httptrace.GotConnInfo) {
	secure, ok := info.Conn.(*tls.Conn)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.multiplexed = ok && secure.ConnectionState().NegotiatedProtocol == "h2"
}

// Read implements io.Reader, unless the rest is withheld.
func (b *onceBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.withheld {
		return 0, errNothingSent
	}
	return b.unread.Read(p)
}

// Close implements io.Closer. It does nothing.
func (b *onceBody) Close() error { return nil }

// failed classifies a request without an answer. From now on, no more of the body
// is given to net/http. The body may be nil.
//
// HTTP/2 also calls GetBody when the server reset the stream in a way that
// usually means that it did not read the request. That does not prove it.
func (b *onceBody) failed(err error) *Error {
	if b == nil {
		return unknown(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unread.Len() > 0 || errors.Is(err, errNothingSent) && !b.multiplexed {
		b.withheld = true
		return notStarted(err)
	}
	return unknown(err)
}
