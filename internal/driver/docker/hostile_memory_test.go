package docker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// peak samples the memory in use on the heap until stop is called, which returns how
// much it grew at most.
func peak() (stop func() int64) {
	before := int64(heap())
	old := debug.SetGCPercent(20) // so that what is garbage counts for little
	done, highest := make(chan struct{}), make(chan int64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		var most int64
		for {
			metrics.Read(sample)
			most = max(most, int64(sample[0].Value.Uint64()))
			select {
			case <-done:
				highest <- most
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int64 {
		close(done)
		debug.SetGCPercent(old)
		return <-highest - before
	}
}

// bomb is a small text that gunzip makes 64 MiB of.
func bomb() string {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write(make([]byte, 64<<20))
	_ = writer.Close()
	return packed.String()
}

// drip sends a text byte by byte until the socket is closed.
func drip(first, text string) func(net.Conn) {
	return func(conn net.Conn) {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		_, err := io.WriteString(conn, first)
		for err == nil {
			<-ticker.C
			_, err = io.WriteString(conn, text)
		}
	}
}

// answers are those of a hostile engine to any request.
func answers() map[string]func(net.Conn) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\n"
	packed := bomb()
	return map[string]func(net.Conn){
		"headers without an end":          forever(head, "A: b\r\n"),
		"one header without an end":       forever(head+"A: ", "bbbbbbbb"),
		"a status without an end":         forever("HTTP/1.1 200 ", "OK"),
		"informational answers":           forever("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
		"informational headers":           forever("HTTP/1.1 103 Early Hints\r\n", "A: b\r\n"),
		"a text without an end":           forever(head+"Content-Length: 99999999999\r\n\r\n{\"Id\":\"", "aaaaaaaa"),
		"a name without an end":           forever(head+"Content-Length: 99999999999\r\n\r\n{\"", "aaaaaaaa"),
		"arrays in arrays":                forever(head+"Content-Length: 99999999999\r\n\r\n{\"Id\":", "[[[[[[[["),
		"keys without an end":             forever(head+"Content-Length: 99999999999\r\n\r\n{", `"a":{"b":"c"},`),
		"spaces":                          forever(head+"Content-Length: 99999999999\r\n\r\n", "        "),
		"chunks without an end":           forever(head+"Transfer-Encoding: chunked\r\n\r\n", "8\r\naaaaaaaa\r\n"),
		"chunks with long extensions":     forever(head+"Transfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaa"),
		"a trailer without an end":        forever(head+"Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0\r\n", "A: b\r\n"),
		"an error without an end":         forever("HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n{\"message\":\"", "aaaaaaaa"),
		"a bomb of gzip":                  says(head + "Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + packed),
		"headers that drip":               drip(head, "A: b\r\n"),
		"informational answers that drip": drip("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
		"a body that drips":               drip(head+"Content-Length: 99999999999\r\n\r\n{\"Id\":\"", "a"),
		"nothing":                         hold,
	}
}

// streams are those of a hostile engine in place of a command's.
func floods() map[string]func(net.Conn) {
	giant := "\x01\x00\x00\x00\xff\xff\xff\xff"
	return map[string]func(net.Conn){
		"output":                  forever(upgradedText, string(frame(1, strings.Repeat("x", 1000)))),
		"errors":                  forever(upgradedText, string(frame(2, strings.Repeat("x", 1000)))),
		"messages of the engine":  forever(upgradedText, string(frame(3, strings.Repeat("x", 1000)))),
		"empty frames":            forever(upgradedText, string(frame(1, ""))),
		"a frame of four GiB":     forever(upgradedText+giant, "xxxxxxxx"),
		"a message of four GiB":   forever(upgradedText+"\x03"+giant[1:], "xxxxxxxx"),
		"messages of the runtime": forever(upgradedText, string(frame(1, refusalPrefix+strings.Repeat("x", 1000)))),
		"a frame that drips":      drip(upgradedText+giant, "x"),
		"a header that drips":     drip(upgradedText, "\x01"),
		"a list of processes":     forever(upgradedText+string(frame(1, "")), string(frame(1, "7 own S 0 7 1\n"))),
	}
}

const (
	victims = 8        // commands at the same time
	maxPeak = 12 << 20 // that they may take in all, with what the engine itself takes
)

// Whatever an engine answers to one step of a command, its memory is bounded, and the
// caller is told in time.
func TestAHostileAnswerCostsLittleMemoryAtAnyStage(t *testing.T) {
	stages := map[string]string{
		"create": "/containers/web/exec", "start": "/start", "exit code": "/exec/abc/json", "watch": "/containers/web/json", "size": "/resize",
	}
	for stage, route := range stages {
		for name, answer := range answers() {
			t.Run(stage+", "+name, func(t *testing.T) { attack(t, map[string]func(net.Conn){route: answer}, route == "/exec/abc/json") })
		}
	}
}

func TestAFloodInPlaceOfACommandCostsLittleMemory(t *testing.T) {
	for name, flood := range floods() {
		t.Run(name, func(t *testing.T) { attack(t, map[string]func(net.Conn){"/start": flood}, false) })
	}
}

// attack runs commands on an engine with hostile routes. ends says whether their streams
// end by themselves.
func attack(t *testing.T, routes map[string]func(net.Conn), ends bool) {
	t.Helper()
	all := map[string]func(net.Conn){
		"/start": func(conn net.Conn) {
			_, _ = io.WriteString(conn, upgradedText+string(frame(1, "hello")))
			if ends {
				_ = conn.(*net.UnixConn).CloseWrite()
			}
		},
		"/exec/abc/json":       says(jsonText(`{"ID":"abc","Running":true,"Pid":7,"ContainerID":"c"}`)),
		"/containers/web/json": says(jsonText(`{"Id":"c","State":{"Running":true,"StartedAt":"x"}}`)),
		"/resize":              says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
	}
	maps.Copy(all, routes)
	options := Options{StageTimeout: 200 * time.Millisecond, KillGrace: 10 * time.Millisecond, WatchInterval: 50 * time.Millisecond}
	conn := mustDial(t, options, play(t, speaks(all)))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	stop := peak()
	begin := time.Now()
	var running sync.WaitGroup
	for i := range victims {
		running.Go(func() {
			command := driver.Command{Place: driver.Place{Container: "web"}, Argv: []string{"x"}}
			if i%2 == 1 {
				command.TTY = &driver.TTY{Size: driver.WindowSize{Columns: 80, Rows: 24}}
			}
			if _, err := conn.Exec(ctx, command, driver.Streams{}); err == nil {
				t.Error("the command has completed")
			}
		})
	}
	running.Wait()
	grown := stop()
	t.Logf("peak %.1f MiB, %s", float64(grown)/(1<<20), time.Since(begin).Round(time.Millisecond))
	if grown > maxPeak {
		t.Errorf("%d commands took %d MiB", victims, grown>>20)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the callers were told after %s", took)
	}
}

// The first request of a connection, and those of others that it passes on.
func TestAHostileAnswerToAPingOrAProxiedRequestCostsLittleMemory(t *testing.T) {
	for name, answer := range answers() {
		t.Run("ping, "+name, func(t *testing.T) {
			stop := peak()
			endpoint := play(t, speaks(map[string]func(net.Conn){"/_ping": answer}))
			if conn, err := dialWith(t.Context(), Options{StageTimeout: 200 * time.Millisecond}, endpoint); err == nil {
				_ = conn.Close()
			}
			wantPeak(t, stop)
		})
		t.Run("proxy, "+name, func(t *testing.T) {
			conn := mustDial(t, Options{StageTimeout: 200 * time.Millisecond}, play(t, speaks(map[string]func(net.Conn){"/info": answer})))
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			stop := peak()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/info", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := conn.Proxy(request); err == nil {
				_, _ = io.Copy(io.Discard, bufio.NewReader(response.Body))
				_ = response.Body.Close()
			}
			wantPeak(t, stop)
		})
	}
}

func wantPeak(t *testing.T, stop func() int64) {
	t.Helper()
	grown := stop()
	t.Logf("peak %.1f MiB", float64(grown)/(1<<20))
	if grown > maxPeak {
		t.Errorf("it took %d MiB", grown>>20)
	}
}

// A list that an engine is asked for, also for an error about a container that is missing.
func TestAHostileListOfContainersCostsLittleMemory(t *testing.T) {
	lists := answers()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
	lists["containers without an end"] = forever(head+`[{"Id":"a"}`, `,{"Id":"b","Names":["/b"]}`)
	lists["one container without an end"] = forever(head+`[{"Names":["`, "aaaaaaaa")
	lists["names without an end"] = forever(head+`[{"Names":[""`, `,"/a"`)
	for name, answer := range lists {
		t.Run(name, func(t *testing.T) {
			routes := map[string]func(net.Conn){
				"/containers/json":     answer,
				"/containers/web/exec": says("HTTP/1.1 404 None\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"message\":\"x\"}"),
			}
			conn := mustDial(t, Options{StageTimeout: 200 * time.Millisecond}, play(t, speaks(routes)))
			begin, stop := time.Now(), peak()
			var asking sync.WaitGroup
			for range 4 {
				asking.Go(func() {
					if found, err := conn.List(t.Context(), inventory.Query{Limit: 500, MaxBytes: 512 << 10}); err == nil && !found.More {
						t.Error("it has an end")
					}
					if _, err := run(conn, driver.Place{Container: "web"}, "true"); driver.OutcomeOf(err) != driver.NotStarted {
						t.Errorf("error %v", err)
					}
				})
			}
			asking.Wait()
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("the callers were told after %s", took)
			}
			if grown := stop(); grown > 2*maxPeak {
				t.Errorf("it took %d MiB", grown>>20)
			}
		})
	}
}
