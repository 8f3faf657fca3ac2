package hostile

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
	live "github.com/connpool/connpool/client"
)

// byEngines are the attacks by the Docker engines that a tenant has added as targets.
func byEngines() []attack {
	return []attack{
		{"an engine's headers without an end", "gigabytes of one header", engineAnswers(endlessHeader)},
		{"an engine's answer without an end", "gigabytes of JSON", engineAnswers(endlessBody)},
		{"an engine's interim answers", "100,000 of status 103", engineAnswers(interim)},
		{"an engine's output, unread", "frames that say 4 GiB", floodedExec},
	}
}

// engineAnswers makes targets of an engine that answers every connection so.
func engineAnswers(answer func(to io.Writer)) func(*testing.T, tenant) {
	return func(t *testing.T, attacker tenant) {
		socket := filepath.Join(t.TempDir(), "s")
		listen(t, "unix", socket, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			answer(conn)
		})
		for i := range 4 {
			attacker.addEngine(t, fmt.Sprint("evil-", i), socket)
		}
		meanwhile(t)
	}
}

func (n tenant) addEngine(t *testing.T, name, socket string) {
	t.Helper()
	n.create(t, &v1alpha1.ConnectionTarget{ObjectMeta: n.named(name), Spec: v1alpha1.ConnectionTargetSpec{
		Docker: &v1alpha1.DockerTarget{Endpoint: "unix://" + socket},
	}}, n.poolOf(name, name))
}

func endlessHeader(to io.Writer) {
	_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nX-Filler: ")
	_, _ = io.Copy(to, letters{})
}

func endlessBody(to io.Writer) {
	_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\n\r\n{\"ApiVersion\":\"")
	_, _ = io.Copy(to, letters{})
}

func interim(to io.Writer) {
	_, _ = io.WriteString(to, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("a", 1000)+"\r\n\r\n", 100_000))
}

// letters is a reader without an end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// floodedExec runs a command on an engine whose output is frames of the greatest length,
// and does not read it.
func floodedExec(t *testing.T, attacker tenant) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: floodingEngine(), ReadHeaderTimeout: time.Minute}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	attacker.addEngine(t, "evil", socket)
	attacker.ready(t, "evil", 30*time.Second)
	pool := attacker.client(t).Pool(attacker.namespace, "evil")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 8 {
		go func() {
			_, _ = pool.Stream(ctx, live.Command{Container: "c", Argv: []string{"true"}}, live.Streams{Stdout: stuck{ctx}})
		}()
	}
	meanwhile(t)
}

// stuck is a writer that takes nothing until its context ends.
type stuck struct{ ctx context.Context }

func (s stuck) Write([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func floodingEngine() http.Handler {
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, code int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Api-Version", "1.41")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/version"):
			say(w, 200, `{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}`)
		case strings.HasSuffix(r.URL.Path, "/exec"):
			say(w, 201, `{"Id":"abc"}`)
		case strings.HasSuffix(r.URL.Path, "/start"):
			flood(w)
		default:
			say(w, 200, `OK`)
		}
	})
	return mux
}

func flood(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	header := make([]byte, 8)
	header[0] = 1
	binary.BigEndian.PutUint32(header[4:], 1<<32-1)
	_, _ = conn.Write(header)
	_, _ = io.Copy(conn, letters{})
}
