package ssh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/sshserver"
)

// serveVariable turns this test's binary into an SSH server, so that a benchmark
// measures only the memory of clients.
const serveVariable = "CONNPOOL_TEST_SERVE_SSH"

func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) != "" {
		serveUntilEOF()
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilEOF prints how to reach the server and serves until its input ends.
func serveUntilEOF() {
	server, err := sshserver.Start(sshserver.Options{
		Handler: func(context.Context, sshserver.Command) int { return 0 },
	})
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(server)
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

func startServerProcess(b *testing.B) driver.Endpoint {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"=1")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	var server struct {
		Addr, KnownHosts string
		PrivateKey       []byte
	}
	if err := json.NewDecoder(stdout).Decode(&server); err != nil {
		b.Fatal(err)
	}
	return endpointOf(server.Addr, "anybody", server.KnownHosts, server.PrivateKey)
}

// BenchmarkIdleConnections reports what an idle connection costs: its share of the
// process's resident memory, without the buffers of sockets in the kernel. Each has run
// a command before, as one of a pool would have.
func BenchmarkIdleConnections(b *testing.B) {
	const count = 2000
	endpoint := startServerProcess(b)
	worst := 0.0 // later rounds reuse the memory of earlier ones
	for b.Loop() {
		before := residentKiB(b)
		conns := dialMany(b, endpoint, count)
		worst = max(worst, float64(residentKiB(b)-before)/count)
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	b.ReportMetric(worst, "KiB/conn")
	b.ReportMetric(0, "ns/op") // dialing is not what this measures
}

func dialMany(b *testing.B, endpoint driver.Endpoint, count int) []driver.Conn {
	b.Helper()
	conns := make([]driver.Conn, count)
	slots := make(chan struct{}, 30) // as the engine's budget
	var dialing sync.WaitGroup
	for i := range conns {
		dialing.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			conn, err := dialWith(context.Background(), Options{}, endpoint)
			if err != nil {
				b.Error(err)
				return
			}
			conns[i] = conn
			if _, err := conn.(driver.Execer).Exec(context.Background(), driver.Command{Argv: []string{"true"}}, driver.Streams{}); err != nil {
				b.Error(err)
			}
		})
	}
	dialing.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

func residentKiB(b *testing.B) int64 {
	b.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == "VmRSS:" {
			kib, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib
		}
	}
	b.Fatal(fmt.Errorf("no VmRSS in %s", status))
	return 0
}
