package docker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api"

	"github.com/connpool/connpool/internal/driver"
)

var quiet = log.New(io.Discard, "", 0)

// hostile is an engine on one socket, until the socket is closed.
type hostile func(net.Conn)

// play serves a unix socket with a hostile engine.
func play(t *testing.T, server hostile) driver.Endpoint {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				server(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return driver.Endpoint{Network: "unix", Address: path, Dial: new(net.Dialer).DialContext}
}

const pongText = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\nContent-Length: 2\r\n\r\nOK"

const upgradedText = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

// speaks answers requests until the socket ends: with the handler of their path, or as a
// healthy engine.
func speaks(routes map[string]func(net.Conn), seen ...func(path, body string)) hostile {
	return func(conn net.Conn) {
		for reader := bufio.NewReader(conn); ; {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(request.Body)
			for _, see := range seen {
				see(request.URL.Path, string(body))
			}
			answer := pongText
			for route, serve := range routes {
				if strings.HasSuffix(request.URL.Path, route) {
					serve(conn)
					answer = ""
				}
			}
			if answer != "" && strings.HasSuffix(request.URL.Path, "/containers/web/exec") {
				answer = jsonText(`{"Id":"abc"}`)
				if strings.Contains(string(body), `"sh","-c"`) { // a command of the driver's own
					answer = jsonText(`{"Id":"helper"}`)
				}
			}
			_, _ = io.WriteString(conn, answer)
		}
	}
}

func jsonText(body string) string {
	return fmt.Sprintf("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func says(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

// forever repeats a text until the socket is closed.
func forever(first, text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, first)
		for chunk := bytes.Repeat([]byte(text), max(1, 16<<10/len(text))); err == nil; {
			_, err = conn.Write(chunk)
		}
	}
}

// hold answers nothing until the socket is closed.
func hold(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestAServerThatIsNoEngineIsGivenUpInTimeAndWithinBounds(t *testing.T) {
	drip := func(conn net.Conn) {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nA: ")
		for err == nil {
			<-ticker.C
			_, err = io.WriteString(conn, "b")
		}
	}
	tests := map[string]struct {
		server hostile
		reason driver.Reason
	}{
		"it says nothing":                 {hold, driver.Timeout},
		"it drips":                        {drip, driver.Timeout},
		"it closes at once":               {func(net.Conn) {}, driver.Unreachable},
		"it is an SSH server":             {says("SSH-2.0-OpenSSH_9.2\r\n"), driver.ProtocolError},
		"it sends garbage":                {speaks(map[string]func(net.Conn){"/_ping": says("\x00\x01\x02\r\n\r\n\r\n")}), driver.ProtocolError},
		"its headers do not end":          {speaks(map[string]func(net.Conn){"/_ping": forever("HTTP/1.1 200 OK\r\n", "A: b\r\n")}), driver.ProtocolError},
		"its body does not end":           {speaks(map[string]func(net.Conn){"/_ping": forever("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 99999999999\r\n\r\n", "OK")}), driver.ProtocolError},
		"it answers with an error":        {speaks(map[string]func(net.Conn){"/_ping": says("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")}), driver.ProtocolError},
		"it forbids":                      {speaks(map[string]func(net.Conn){"/_ping": says("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")}), driver.Forbidden},
		"it is some other server of HTTP": {speaks(map[string]func(net.Conn){"/_ping": says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}), driver.ProtocolError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before := heap()
			begin := time.Now()
			_, err := dialWith(t.Context(), Options{StageTimeout: 500 * time.Millisecond}, play(t, tc.server))
			wantError(t, err, tc.reason, driver.StageSession)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("given up after %s", took)
			}
			if grown := int64(heap()) - int64(before); grown > 8<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

// A connection is made only if commands can run on it.
func TestAnEngineWhoseAPICannotRunCommandsIsNotConnected(t *testing.T) {
	pong := func(version string) string { return strings.Replace(pongText, "1.41", version, 1) }
	const tooOld = `{"message":"client version 1.51 is too old. Minimum supported API version is 1.90"}`
	refused := fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nApi-Version: 1.99\r\nContent-Length: %d\r\n\r\n%s", len(tooOld), tooOld)
	tests := map[string]struct {
		ping, versioned string
		words           string // none if it can
	}{
		"at most 1.24":                 {pong("1.24"), pong("1.24"), "at most 1.24, and commands need 1.25"},
		"at most 1.25":                 {pong("1.25"), "", ""},
		"at most the operator's":       {pong(api.DefaultVersion), "", ""},
		"newer, and takes older":       {pong("1.99"), pong("1.99"), ""},
		"newer, and does not":          {pong("1.99"), refused, "Minimum supported API version is 1.90"},
		"newer, and answers nonsense":  {pong("1.99"), "HTTP/1.1 400 Bad Request\r\nContent-Length: 1\r\n\r\n[", "400 Bad Request"},
		"a version that is a path":     {pong("1.41/../.."), "", "does not say its API version"},
		"a version that is no version": {pong("new"), "", "does not say its API version"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var versioned atomic.Bool
			endpoint := play(t, func(conn net.Conn) {
				for reader := bufio.NewReader(conn); ; {
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					if request.URL.Path == "/v"+api.DefaultVersion+"/_ping" {
						versioned.Store(true)
						_, _ = io.WriteString(conn, tc.versioned)
						continue
					}
					_, _ = io.WriteString(conn, tc.ping)
				}
			})
			conn, err := dialWith(t.Context(), Options{StageTimeout: time.Second}, endpoint)
			if tc.words == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				return
			}
			if got := wantError(t, err, driver.ProtocolError, driver.StageSession); !strings.Contains(got.Message, tc.words) {
				t.Errorf("message %q, want it to say %q", got.Message, tc.words)
			}
			if versioned.Load() != strings.HasPrefix(name, "newer") {
				t.Errorf("asked for its version: %t", versioned.Load())
			}
		})
	}
}

// The same question, to a real engine, about a version that it does not take.
func TestAnEngineAnswersAPingOfAVersionThatItDoesNotTakeWithAnError(t *testing.T) {
	conn := mustDial(t, Options{}, unixEndpoint(sharedEngine(t)))
	for version, want := range map[string]int{"/v1.5": http.StatusBadRequest, "/v1.25": http.StatusOK} {
		response, err := conn.transport.RoundTrip(pingRequest(t.Context(), version))
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s: %s, want %d", version, response.Status, want)
		}
		_ = response.Body.Close()
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// The engine's answers to the steps of a command decide which outcome is known.
func TestTheAnswerToAStartDecidesWhatIsKnown(t *testing.T) {
	const upgraded = upgradedText
	exited := says(jsonText(`{"ID":"abc","Running":false,"ExitCode":3,"Pid":1}`))
	streams := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = io.WriteString(conn, upgraded+text)
			_ = conn.(*net.UnixConn).CloseWrite()
		}
	}
	tests := map[string]struct {
		routes  map[string]func(net.Conn)
		outcome driver.Outcome
		reason  driver.Reason
	}{
		"it runs and ends":                        {map[string]func(net.Conn){"/start": streams(string(frame(1, "x"))), "/json": exited}, driver.Completed, ""},
		"no answer to the preparation":            {map[string]func(net.Conn){"/containers/web/exec": hold}, driver.NotStarted, driver.Timeout},
		"a preparation that does not end":         {map[string]func(net.Conn){"/containers/web/exec": forever("HTTP/1.1 201 C\r\nContent-Type: application/json\r\n\r\n{\"Id\":\"", "a")}, driver.NotStarted, driver.Unreachable},
		"a preparation with a path for a name":    {map[string]func(net.Conn){"/containers/web/exec": says(jsonText(`{"Id":"../../x"}`))}, driver.NotStarted, driver.ProtocolError},
		"a refused preparation":                   {map[string]func(net.Conn){"/containers/web/exec": says("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")}, driver.NotStarted, driver.Forbidden},
		"an ID that begins several":               {map[string]func(net.Conn){"/containers/web/exec": says("HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: 56\r\n\r\n{\"message\":\"Multiple IDs found with provided prefix: w\"}")}, driver.NotStarted, driver.NotFound},
		"no answer to the start":                  {map[string]func(net.Conn){"/start": hold}, driver.Unknown, driver.Timeout},
		"the socket ends instead":                 {map[string]func(net.Conn){"/start": func(conn net.Conn) { _ = conn.Close() }}, driver.Unknown, driver.Unreachable},
		"the container has stopped":               {map[string]func(net.Conn){"/start": says("HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nstop")}, driver.NotStarted, driver.NotFound},
		"the container is paused":                 {map[string]func(net.Conn){"/start": says("HTTP/1.1 409 Conflict\r\nContent-Length: 9\r\n\r\nis paused")}, driver.NotStarted, driver.NotFound},
		"the engine forgot":                       {map[string]func(net.Conn){"/start": says("HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n")}, driver.NotStarted, driver.NotFound},
		"a gateway gave up":                       {map[string]func(net.Conn){"/start": says("HTTP/1.1 504 Gateway\r\nContent-Length: 0\r\n\r\n")}, driver.Unknown, driver.ProtocolError},
		"an answer without streams":               {map[string]func(net.Conn){"/start": says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}, driver.Unknown, driver.ProtocolError},
		"headers without an end":                  {map[string]func(net.Conn){"/start": forever(upgraded[:len(upgraded)-2], "A: b\r\n")}, driver.Unknown, driver.Unreachable},
		"streams that make no sense":              {map[string]func(net.Conn){"/start": streams(string(frame(9, "x"))), "/json": exited}, driver.Unknown, driver.ProtocolError},
		"a frame that is cut off":                 {map[string]func(net.Conn){"/start": streams(string(frame(1, "text")[:9])), "/json": exited}, driver.Unknown, driver.Unreachable},
		"the engine's own error":                  {map[string]func(net.Conn){"/start": streams(string(frame(3, "broke"))), "/json": exited}, driver.Unknown, driver.ProtocolError},
		"no streams and never a process":          {map[string]func(net.Conn){"/start": streams(string(frame(3, "cannot"))), "/json": says(jsonText(`{"ID":"abc"}`))}, driver.NotStarted, driver.ProtocolError},
		"an engine that forgets the process":      {map[string]func(net.Conn){"/start": streams(string(frame(1, "x"))), "/json": says(jsonText(`{"ID":"abc","ExitCode":3,"Pid":0}`))}, driver.Completed, ""},
		"a process without an exit code":          {map[string]func(net.Conn){"/start": streams(""), "/json": says(jsonText(`{"ID":"abc","ExitCode":null,"Pid":7}`))}, driver.Unknown, driver.ProtocolError},
		"a runtime that fails for another reason": {map[string]func(net.Conn){"/start": streams(string(frame(1, refusalPrefix+"broken"))), "/json": says(jsonText(`{"ID":"abc","ExitCode":126,"Pid":0}`))}, driver.NotStarted, driver.ProtocolError},
		"started before, by a gateway":            {map[string]func(net.Conn){"/start": says("HTTP/1.1 409 Conflict\r\nContent-Length: 34\r\n\r\nexec command abc is already running")}, driver.Unknown, driver.ProtocolError},
		"an exit code that is not known":          {map[string]func(net.Conn){"/start": streams(""), "/json": says("HTTP/1.1 404 None\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"message\":\"x\"}")}, driver.Unknown, driver.NotFound},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			conn := mustDial(t, Options{StageTimeout: 500 * time.Millisecond, KillGrace: 10 * time.Millisecond}, play(t, speaks(tc.routes)))
			status, err := conn.Exec(t.Context(), driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{})
			wantOutcome(t, err, tc.outcome)
			if err == nil && status.Code != 3 {
				t.Errorf("status %+v", status)
			}
			if err != nil && driver.AsError(err).Reason != tc.reason {
				t.Errorf("%s (%v), want %s", driver.AsError(err).Reason, driver.AsError(err), tc.reason)
			}
		})
	}
}

// Podman forgets the process of a command that has ended with exit code 0, so both the
// code and the process are 0 although the command has run.
func TestACommandHasRunThoughItsProcessIsForgotten(t *testing.T) {
	conn := mustDial(t, Options{StageTimeout: time.Second}, play(t, speaks(map[string]func(net.Conn){
		"/start": func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+string(frame(1, "done")))
			_ = conn.(*net.UnixConn).CloseWrite()
		},
		"/json": says(jsonText(`{"ID":"abc","Running":false,"ExitCode":0,"Pid":0}`)),
	})))
	command := driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}
	if status, err := conn.Exec(t.Context(), command, driver.Streams{}); err != nil || status.Code != 0 {
		t.Errorf("%+v, %v (%s)", status, err, driver.OutcomeOf(err))
	}
}

// A frame claims four gigabytes and has some megabytes. None of it is kept in memory.
func TestAnEndlessFrameIsPassedOnAsItArrives(t *testing.T) {
	var header [frameHeader]byte
	copy(header[:], []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	endpoint := play(t, speaks(map[string]func(net.Conn){"/start": forever("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+string(header[:]), "0123456789")}))
	conn := mustDial(t, Options{KillGrace: time.Millisecond}, endpoint)
	before := heap()
	output := &limited{limit: 64 << 20}
	_, err := conn.Exec(t.Context(), driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{Stdout: output})
	wantOutcome(t, err, driver.Unknown)
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// limited is a writer that fails after some bytes.
type limited struct{ limit int }

func (l *limited) Write(p []byte) (int, error) {
	if l.limit -= len(p); l.limit < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestAStartIsSentOnceWhateverHappens(t *testing.T) {
	var starts atomic.Int64
	end := func(conn net.Conn) { _ = conn.Close() }
	count := func(path, _ string) {
		if strings.HasSuffix(path, "/exec/abc/start") {
			starts.Add(1)
		}
	}
	conn := mustDial(t, Options{}, play(t, speaks(map[string]func(net.Conn){"/start": end}, count)))
	for range 10 {
		_, err := conn.Exec(t.Context(), driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}, driver.Streams{})
		wantOutcome(t, err, driver.Unknown)
	}
	if starts.Load() != 10 {
		t.Errorf("%d starts of 10 commands", starts.Load())
	}
}

func TestAKeepaliveMayBeSlowWhileOtherBytesArrive(t *testing.T) {
	slow := make(chan struct{})
	var pings atomic.Int64
	endpoint := brief(play(t, speaks(map[string]func(net.Conn){
		"/_ping": func(conn net.Conn) {
			if pings.Add(1) == 2 {
				<-slow
			}
			_, _ = io.WriteString(conn, pongText)
		},
		"/events": func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for range 50 {
				<-ticker.C
				_, _ = io.WriteString(conn, "xx")
			}
			close(slow)
		},
	})))
	conn := mustDial(t, Options{}, endpoint)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := conn.Proxy(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || !bytes.Equal(body, bytes.Repeat([]byte("x"), 100)) {
		t.Errorf("%d bytes, error %v", len(body), err)
	}
	if conn.Context().Err() != nil {
		t.Errorf("the connection died: %v", driver.AsError(conn.ctx.Err()))
	}
}
