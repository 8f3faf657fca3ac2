package docker

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
	"github.com/connpool/connpool/test/netfault"
)

// dialTo returns a DialFunc that always dials one address.
func dialTo(address string) driver.DialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

// BenchmarkCommand compares one `true` through a warm connection with a client of
// Docker's own that is made for it, and with the command line client, in the same
// run: over TLS, directly and with a round trip of 50 ms. Each reports its median.
func BenchmarkCommand(b *testing.B) {
	engine := dockerd.Start(b)
	place := startContainer(b, engine)
	b.Run("direct", func(b *testing.B) { benchCommands(b, engine, place, engine.TCP) })
	proxy, err := netfault.Start(engine.TCP, netfault.Options{RoundTrip: 50 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(proxy.Close)
	b.Run("50ms", func(b *testing.B) { benchCommands(b, engine, place, proxy.Addr) })
}

func benchCommands(b *testing.B, engine *dockerd.Engine, place driver.Place, address string) {
	b.Helper()
	endpoint := tcpEndpoint(engine)
	endpoint.Address = address
	conn := mustDial(b, Options{}, endpoint)
	files := writeKeys(b, engine)
	ways := map[string]func() error{
		"driver": func() error {
			_, err := conn.Exec(context.Background(), driver.Command{Place: place, Argv: []string{"true"}}, driver.Streams{})
			return err
		},
		"fresh": func() error { return freshCommand(address, files, place.Container) },
		"cli": func() error {
			cmd, err := dockerd.Command(context.Background(), "tcp://"+address, "--tlsverify",
				"--tlscacert="+files+"/ca.pem", "--tlscert="+files+"/cert.pem", "--tlskey="+files+"/key.pem", "exec", place.Container, "true")
			if err != nil {
				return err
			}
			return cmd.Run()
		},
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for name, run := range ways {
			begin := time.Now()
			if err := run(); err != nil {
				b.Fatalf("%s: %v", name, err)
			}
			took[name] = append(took[name], time.Since(begin))
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of all says nothing
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
	}
}

func writeKeys(b *testing.B, engine *dockerd.Engine) string {
	b.Helper()
	dir := b.TempDir()
	for name, content := range map[string][]byte{"ca.pem": engine.CA, "cert.pem": engine.Cert, "key.pem": engine.Key} {
		if err := os.WriteFile(dir+"/"+name, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// freshCommand runs a command like a program that makes a client for each.
func freshCommand(address, files, name string) error {
	ctx := context.Background()
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+address), client.WithAPIVersionNegotiation(),
		client.WithTLSClientConfig(files+"/ca.pem", files+"/cert.pem", files+"/key.pem"))
	if err != nil {
		return err
	}
	defer docker.Close() //nolint:errcheck // never fails
	created, err := docker.ContainerExecCreate(ctx, name, container.ExecOptions{Cmd: []string{"true"}, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return err
	}
	attached, err := docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer attached.Close()
	for _, err := attached.Reader.ReadByte(); err == nil; _, err = attached.Reader.ReadByte() {
	}
	_, err = docker.ContainerExecInspect(ctx, created.ID)
	return err
}

// BenchmarkIdleConnections reports what an idle connection costs in this process:
// memory and descriptors, after a command each.
func BenchmarkIdleConnections(b *testing.B) {
	const count = 200
	engine := dockerd.Start(b)
	place := startContainer(b, engine)
	for name, endpointOf := range transports {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				files, goroutines, resident, live := descriptors(), runtime.NumGoroutine(), residentKiB(b), heap()
				conns := make([]driver.Conn, count)
				for i := range conns {
					conns[i] = mustDial(b, Options{}, endpointOf(engine))
					if i%10 == 0 {
						_, _ = run(conns[i].(driver.Execer), place, "true")
					}
				}
				b.ReportMetric(float64(heap()-live)/count/1024, "KiB-heap/conn")
				b.ReportMetric(float64(residentKiB(b)-resident)/count, "KiB-resident/conn")
				b.ReportMetric(float64(descriptors()-files)/count, "descriptors/conn")
				b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/count, "goroutines/conn")
				for _, conn := range conns {
					_ = conn.Close()
				}
			}
			b.ReportMetric(0, "ns/op") // dialing is not what this measures
		})
	}
}

func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

func residentKiB(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	var kib int64
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}
