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

// errNothingSent is how we learn that nothing of a request went out.
var errNothingSent = errors.New("the connection was closed before the request was sent")

// onceBody is the body of a request that is sent at most once. It knows whether
// net/http has taken all of it: nobody can start what he has not wholly
// received.
type onceBody struct {
	size int64

	mu       sync.Mutex
	unread   *bytes.Reader
	withheld bool
	// multiplexed says that the connection carries other requests too: HTTP/2.
	multiplexed bool
}

// encode is the body of an object as JSON.
func encode(object any) (*onceBody, error) {
	if object == nil {
		return nil, nil //nolint:nilnil // No object is no body, as in net/http.
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return &onceBody{size: int64(len(data)), unread: bytes.NewReader(data)}, nil
}

func newRequest(ctx context.Context, method string, u *url.URL, body *onceBody) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if body == nil {
		return request, nil
	}
	request.Header.Set("Content-Type", "application/json")
	request.Body, request.ContentLength = body, body.size
	return request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: body.gotConn})), nil
}

// once sends a request at most once.
//
// When a kept connection turns out to be closed and nothing was written to it,
// net/http's transport asks GetBody for the body again. Instead of one it gets an
// error, which tells us that nothing was sent.
type once struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (o once) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		request = request.WithContext(request.Context()) // A copy: the caller's is not ours to change.
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

// Read hands the next bytes over, unless the rest is withheld.
func (b *onceBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.withheld {
		return 0, errNothingSent
	}
	return b.unread.Read(p)
}

// Close does nothing; net/http asks for it.
func (b *onceBody) Close() error { return nil }

// failed classifies a request without an answer. What was not handed over by now
// is withheld for good.
//
// HTTP/2 asks for the body again also when the peer has reset the stream in a way
// that usually, but not surely, means that it did not look at it; there, its
// question proves nothing.
func (b *onceBody) failed(err error) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unread.Len() > 0 || errors.Is(err, errNothingSent) && !b.multiplexed {
		b.withheld = true
		return notStarted(err)
	}
	return unknown(err)
}
