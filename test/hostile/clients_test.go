package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"k8s.io/client-go/rest"

	liveapi "github.com/connpool/connpool/api/live/v1alpha1"
	live "github.com/connpool/connpool/client"
)

// byClients are the attacks by those who may use a pool, or who only reach the port.
func byClients() []attack {
	return []attack{
		{"requests full of aliases", "8 bodies of 62 KB of YAML", aliasesInRequests},
		{"output that doubles, unread", "24 commands, 2 MiB of NUL each", unreadOutput},
		{"input that does not end", "2 accounts, 131 bodies each", endlessInput},
		{"forwarded connections, unread", "4 users, 120 connections to an endless server each", unreadForwards},
		{"anonymous bodies that do not end", "300 connections", anonymousBodies},
		{"HTTP/2 streams that are reset", "4 connections, 20,000 streams each", rapidReset},
		{"HTTP/2 headers that do not end", "4 connections, 16 MiB of CONTINUATION each", endlessHeaders},
	}
}

// serveAttacker makes a pool of the attacker's own, on a real server.
func serveAttacker(t *testing.T, attacker tenant) *live.Pool {
	t.Helper()
	server := startSSHD(t)
	attacker.secret(t, "login", login(server.PrivateKey))
	pool := attacker.poolOf("own", "own")
	pool.Spec.SessionsPerConnection = new(int32(8))
	attacker.create(t, attacker.sshTarget("own", server.Addr, server.KnownHosts, server.User), pool)
	attacker.ready(t, "own", 30*time.Second)
	return attacker.client(t).Pool(attacker.namespace, "own")
}

func (n tenant) url(path string) string {
	return "https://" + env.address + "/apis/" + liveapi.GroupName + "/v1alpha1/namespaces/" + n.namespace + "/" + path
}

func aliasesInRequests(t *testing.T, attacker tenant) {
	client := httpClient(t, attacker.direct)
	body := bomb(50_000, 4_000)
	var all sync.WaitGroup
	for _, path := range []string{"connectionpools/p/exec", "connectionpools/p/drain", "connectiontargets/t/check", "sessions"} {
		for range 2 {
			all.Go(func() {
				response, err := client.Post(attacker.url(path), "application/yaml", bytes.NewReader(body))
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				defer response.Body.Close()
				if response.StatusCode < 400 {
					t.Errorf("%s: %s", path, response.Status)
				}
			})
		}
	}
	all.Wait()
	meanwhile(t)
}

func httpClient(t *testing.T, config *rest.Config) *http.Client {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// unreadOutput has commands whose output is several times as long in JSON, and reads
// no answer.
func unreadOutput(t *testing.T, attacker tenant) {
	serveAttacker(t, attacker)
	spec := liveapi.ExecSpec{Shell: "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2"}
	body, err := json.Marshal(&liveapi.Exec{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	for range 24 {
		conn := dial(t, attacker.direct)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			strings.TrimPrefix(attacker.url("connectionpools/own/exec"), "https://"+env.address), attacker.direct.BearerToken, len(body), body)
	}
	meanwhile(t)
}

// dial opens a TLS connection to the operator's own port, which ends with the test.
func dial(t *testing.T, config *rest.Config, protocols ...string) *tls.Conn {
	t.Helper()
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(config.CAData)
	plain, err := net.Dial("tcp", env.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = plain.(*net.TCPConn).SetReadBuffer(4096) // so that little is on its way
	conn := tls.Client(plain, &tls.Config{RootCAs: authorities, ServerName: "127.0.0.1", NextProtos: protocols})
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// endlessInput sends bodies of many sizes but for their last byte.
func endlessInput(t *testing.T, attacker tenant) {
	for _, name := range []string{"one", "two"} {
		account := attacker.account(t, name)
		for _, bytes := range []int{1 << 20, 64 << 10, 2 << 10, 60} {
			for range 32 {
				_ = beginBody(t, account, attacker.url("connectionpools/p/exec"), bytes)
			}
		}
	}
	meanwhile(t)
}

// beginBody begins a request whose body lacks its end. It returns the connection.
func beginBody(t *testing.T, account *rest.Config, url string, bytes int) net.Conn {
	t.Helper()
	conn := dial(t, account)
	_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second)) // the operator need not read it
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
		strings.TrimPrefix(url, "https://"+env.address))
	if account.BearerToken != "" {
		fmt.Fprintf(conn, "Authorization: Bearer %s\r\n", account.BearerToken)
	}
	fmt.Fprintf(conn, "\r\n%x\r\n%s", bytes, strings.Repeat(" ", bytes))
	return conn
}

func anonymousBodies(t *testing.T, attacker tenant) {
	anonymous := rest.AnonymousClientConfig(attacker.direct)
	conns := make([]net.Conn, 300)
	for i := range conns {
		conns[i] = beginBody(t, anonymous, attacker.url("connectionpools/p/exec"), 1)
	}
	deadline := time.Now().Add(30 * time.Second)
	held := 0
	for _, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
			held++
		}
	}
	if held > 0 {
		t.Errorf("%d of %d connections are still held after 30 s", held, len(conns))
	}
}

// unreadForwards forwards connections to a server that writes for ever.
func unreadForwards(t *testing.T, attacker tenant) {
	flood, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flood.Close() })
	go func() {
		for {
			conn, err := flood.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, endless{}) }()
		}
	}()
	serveAttacker(t, attacker)
	_, port, _ := net.SplitHostPort(flood.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 4 {
		user, err := live.New(attacker.account(t, fmt.Sprint("user-", i)))
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			go forwardUnread(ctx, user.Pool(attacker.namespace, "own"), port)
		}
	}
	meanwhile(t)
}

// forwardUnread opens as many connections as it may, up to 10, until ctx ends. They
// share one connection to the operator, so the first ones hold up the others.
func forwardUnread(ctx context.Context, pool *live.Pool, port string) {
	forwarder, err := pool.Forward(ctx, "own", port)
	if err != nil {
		return // the operator may refuse so many
	}
	defer forwarder.Close()
	for range 10 {
		go func() { _, _ = forwarder.Dial(ctx) }()
	}
	<-ctx.Done()
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// rapidReset opens streams and resets each at once.
func rapidReset(t *testing.T, attacker tenant) {
	block := requestHeaders(attacker, nil)
	for range 4 {
		conn, framer := dialHTTP2(t, attacker)
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		go resetStreams(framer, block)
	}
	meanwhile(t)
}

func resetStreams(framer *http2.Framer, block []byte) {
	for i := range uint32(20_000) {
		id := 2*i + 1
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return // the operator has ended the connection
		}
	}
}

func dialHTTP2(t *testing.T, attacker tenant) (*tls.Conn, *http2.Framer) {
	t.Helper()
	conn := dial(t, attacker.direct, "h2")
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return conn, framer
}

// requestHeaders returns the compressed headers of a POST that the operator has to look
// into.
func requestHeaders(attacker tenant, extra map[string]string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := [][2]string{
		{":method", "POST"},
		{":scheme", "https"},
		{":authority", "x"},
		{":path", strings.TrimPrefix(attacker.url("connectionpools/p/exec"), "https://"+env.address)},
		{"authorization", "Bearer " + attacker.direct.BearerToken},
		{"content-type", "application/json"},
	}
	for name, value := range extra {
		fields = append(fields, [2]string{name, value})
	}
	for _, field := range fields {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true})
	}
	return block.Bytes()
}

func endlessHeaders(t *testing.T, attacker tenant) {
	fragment := requestHeaders(attacker, map[string]string{"x-filler": strings.Repeat("a", 12<<10)})
	for range 4 {
		conn, framer := dialHTTP2(t, attacker)
		go func() {
			defer conn.Close() //nolint:errcheck // the operator may have closed it
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fragment})
			for sent := 0; sent < 16*mebi; sent += len(fragment) {
				if framer.WriteContinuation(1, false, fragment) != nil {
					return
				}
			}
		}()
	}
	meanwhile(t)
}
