package halfclose

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type closeWriter interface{ CloseWrite() error }

// engine reads to the end of its input, and only then answers.
func engine(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(header) != "" {
			t.Errorf("the request still asks for frames")
		}
		conn, buffers, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		answer := http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: w.Header()}
		answer.Header.Set("Connection", "Upgrade")
		answer.Header.Set("Upgrade", "tcp")
		_ = answer.Write(buffers)
		_ = buffers.Flush()
		input, err := io.ReadAll(conn)
		if err != nil {
			_, _ = io.WriteString(conn, err.Error())
		}
		_, _ = conn.Write(bytes.ToUpper(input))
		if half, ok := conn.(closeWriter); ok {
			_ = half.CloseWrite()
		}
	}
}

// hasty is a proxy that ends an upgraded connection when one side ends its
// direction, as kube-apiserver does, because it hides CloseWrite of its backend.
func hasty(t *testing.T, backend http.Handler) *httptest.Server {
	t.Helper()
	behind := httptest.NewServer(backend)
	t.Cleanup(behind.Close)
	to, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := transport.RoundTrip(r)
			if body, ok := response.Body.(io.ReadWriteCloser); err == nil && ok {
				response.Body = struct{ io.ReadWriteCloser }{body}
			}
			return response, err
		}),
	})
	t.Cleanup(front.Close)
	return front
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// attach upgrades a connection.
func attach(t *testing.T, address string, frames bool) io.ReadWriteCloser {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	if frames {
		Ask(request.Header)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	Unwrap(response)
	t.Cleanup(func() { response.Body.Close() })
	return response.Body.(io.ReadWriteCloser)
}

func closeWrite(t *testing.T, conn io.ReadWriteCloser) {
	t.Helper()
	if err := conn.(closeWriter).CloseWrite(); err != nil {
		t.Error(err)
	}
}

func TestADirectionEndsAcrossAProxyThatWouldEndBoth(t *testing.T) {
	front := hasty(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { engine(t)(Accept(w, r), r) }))
	conn := attach(t, front.URL, true)
	input := strings.Repeat("0123456789abcde\n", 100_000)
	want := strings.ToUpper(input)
	if _, err := io.WriteString(conn, input); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, conn)
	closeWrite(t, conn) // a second call is not an error
	output, err := io.ReadAll(conn)
	if err != nil || string(output) != want {
		t.Errorf("%d bytes came back, %v", len(output), err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, errWriteClosed) {
		t.Errorf("a write after the end: %v", err)
	}
}

func TestWithoutFramesTheConnectionCarriesPlainBytes(t *testing.T) {
	tests := map[string]struct {
		asks   bool
		server func(http.ResponseWriter, *http.Request) http.ResponseWriter
	}{
		"the client does not ask": {false, Accept},
		"the server does not know frames": {true, func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			Withdraw(r.Header)
			return w
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { engine(t)(test.server(w, r), r) }))
			defer server.Close()
			conn := attach(t, server.URL, test.asks)
			_, _ = io.WriteString(conn, "hello")
			closeWrite(t, conn)
			if output, err := io.ReadAll(conn); err != nil || string(output) != "HELLO" {
				t.Errorf("got %q, %v", output, err)
			}
		})
	}
}

func TestAnAnswerThatIsNoUpgradeIsLeftAlone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(Accept(w, r), "no such container", http.StatusNotFound)
	}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	Ask(request.Header)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	Unwrap(response)
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "no such container\n" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestWhatIsReadFromFrames(t *testing.T) {
	tests := map[string]struct {
		wire, want string
		err        error
	}{
		"data and its end":           {"\x00\x00\x00\x02hi\x00\x00\x00\x00", "hi", nil},
		"several frames":             {"\x00\x00\x00\x01a\x00\x00\x00\x02bc\x00\x00\x00\x00", "abc", nil},
		"nothing":                    {"\x00\x00\x00\x00", "", nil},
		"what comes after the end":   {"\x00\x00\x00\x00\x00\x00\x00\x01x", "", nil},
		"a cut before the end":       {"\x00\x00\x00\x02hi", "hi", io.ErrUnexpectedEOF},
		"a cut in the data":          {"\x00\x00\x00\x03hi", "hi", io.ErrUnexpectedEOF},
		"a cut in the head":          {"\x00\x00", "", io.ErrUnexpectedEOF},
		"a cut before anything":      {"", "", io.ErrUnexpectedEOF},
		"a length that no frame has": {"\xff\xff\xff\xffhi", "hi", io.ErrUnexpectedEOF},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := io.ReadAll(newStream(nil, strings.NewReader(test.wire)))
			if string(got) != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestTheConnectionBelowShowsItsEndAfterTheLastFrame(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &conn{Conn: near, stream: newStream(near, near)}
	go func() {
		_, _ = far.Write([]byte{0, 0, 0, 0})
		_ = far.Close()
	}()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if n, err := c.NetConn().Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
}
