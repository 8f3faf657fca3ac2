package apiserver_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// speak sends a request as it is written, over HTTP/1.1, and returns the status of the
// answer.
func speak(t *testing.T, request string) int {
	t.Helper()
	conn, err := tls.Dial("tcp", env.address, &tls.Config{RootCAs: env.authority, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the end of the test
	if _, err := fmt.Fprint(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestOddRequestsGetNowhere(t *testing.T) {
	permit(t, "reader-of-odd", "get", "list")
	permit(t, "writer-of-odd", "create")
	token := map[string]string{}
	for _, name := range []string{"reader-of-odd", "writer-of-odd"} {
		config, err := env.plane.ServiceAccount(t.Context(), corev1.NamespaceDefault, name)
		if err != nil {
			t.Fatal(err)
		}
		token[name] = config.BearerToken
	}
	line := func(method, path, user string, headers ...string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token[user] + "\r\n" +
			strings.Join(append(headers, ""), "\r\n") + "\r\n"
	}
	for name, test := range map[string]struct {
		request string
		want    []int
	}{
		"CONNECT":                     {line("CONNECT", execPath, "writer-of-odd"), []int{400, 403, 405}},
		"TRACE":                       {line("TRACE", execPath, "writer-of-odd"), []int{403, 405}},
		"PROPFIND":                    {line("PROPFIND", execPath, "writer-of-odd"), []int{403, 405}},
		"a method in a header":        {line("GET", execPath, "reader-of-odd", "X-HTTP-Method-Override: POST"), []int{403}},
		"a WebSocket of a reader":     {line("GET", execPath, "reader-of-odd", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"), []int{403}},
		"SPDY of a reader":            {line("GET", execPath, "reader-of-odd", "Connection: Upgrade", "Upgrade: SPDY/3.1"), []int{403}},
		"a proxied GET of a reader":   {line("GET", proxyPath, "reader-of-odd"), []int{403}},
		"two lengths":                 {line("POST", execPath, "writer-of-odd", "Content-Length: 1", "Content-Length: 2") + "x", []int{400}},
		"an unknown encoding":         {line("POST", execPath, "writer-of-odd", "Transfer-Encoding: xchunked") + "x", []int{400, 501}},
		"a password":                  {"POST " + execPath + " HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46YWRtaW4=\r\nContent-Length: 0\r\n\r\n", []int{401}},
		"another's name with a token": {line("POST", execPath, "writer-of-odd", "Impersonate-User: root", "Content-Length: 0"), []int{403}},
		"the old path of a watch":     {line("GET", strings.Replace(execPath, "v1alpha1/", "v1alpha1/watch/", 1), "reader-of-odd"), []int{403, 404, 405}},
		"the old path of a proxy":     {line("GET", strings.Replace(execPath, "v1alpha1/", "v1alpha1/proxy/", 1), "reader-of-odd"), []int{403, 404, 405}},
		"a namespace with a slash":    {line("POST", strings.Replace(execPath, "namespaces/default", "namespaces/default%2f..%2fother", 1), "writer-of-odd", "Content-Length: 0"), []int{400, 403, 404}},
	} {
		t.Run(name, func(t *testing.T) {
			before := env.uses.Load()
			got := speak(t, test.request)
			if !slices.Contains(test.want, got) || env.uses.Load() != before {
				t.Errorf("answered %d, want one of %v; it got through: %t", got, test.want, env.uses.Load() != before)
			}
		})
	}
}

func TestThePortServesTheLiveAPIAndNothingElse(t *testing.T) {
	config, err := env.plane.User("everything", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/configz", "/flagz", "/debug/flags/v", "/logs/", "/swagger-ui/", "/api/v1/secrets", "/apis/connpool.dev/v1alpha1"} {
		if got, body := send(t, &tls.Config{Certificates: []tls.Certificate{pair}}, http.MethodGet, path, nil); got != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got, body)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"TLS 1.0":       {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"TLS 1.1":       {MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11},
		"a CBC suite":   {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"RSA exchanges": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			config.RootCAs = env.authority
			conn, err := tls.Dial("tcp", env.address, config)
			if err == nil {
				_ = conn.Close()
				t.Errorf("connected with %s", tls.CipherSuiteName(conn.ConnectionState().CipherSuite))
			}
		})
	}
}
