package ssh

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
)

// BenchmarkCommand compares one `true` through this driver with its
// alternatives, in the same run: directly, and with a round trip of 50 ms. Each
// reports its median, because the load of the machine distorts means.
//
// As root it creates a user with a plain shell, and measures with that.
func BenchmarkCommand(b *testing.B) {
	server := benchServer(b)
	b.Run("direct", func(b *testing.B) { benchCommands(b, server, server.Addr) })
	proxy, err := netfault.Start(server.Addr, netfault.Options{RoundTrip: 50 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(proxy.Close)
	b.Run("50ms", func(b *testing.B) { benchCommands(b, server, proxy.Addr) })
}

func benchServer(b *testing.B) *openssh.Server {
	b.Helper()
	options := openssh.Options{}
	if os.Geteuid() == 0 {
		options.User = "connpool-bench"
		remove, err := openssh.CreateUser(options.User)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(remove)
	}
	server, err := openssh.Start(context.Background(), options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	return server
}

func benchCommands(b *testing.B, server *openssh.Server, address string) {
	b.Run("beside the library", func(b *testing.B) {
		compare(b, benchDriver(b, server, address), map[string]func() error{"library": benchLibrary(b, server, address)})
	})
	b.Run("beside ssh", func(b *testing.B) {
		master, fresh := startMaster(b, server, address), sshArguments(b, server, address)
		compare(b, benchDriver(b, server, address), map[string]func() error{
			"controlmaster": func() error { return exec.Command("ssh", append(master, "true")...).Run() },
			"fresh":         func() error { return exec.Command("ssh", append(fresh, "true")...).Run() },
		})
	})
}

// compare runs the driver and its alternatives in turn, so that the load of the machine
// is the same for all, and reports the median of each and the driver's ratio.
func compare(b *testing.B, ours func() error, others map[string]func() error) {
	b.Helper()
	took := map[string][]time.Duration{}
	measure := func(name string, run func() error) {
		begin := time.Now()
		if err := run(); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		took[name] = append(took[name], time.Since(begin))
	}
	for b.Loop() {
		measure("driver", ours)
		for name, run := range others {
			measure(name, run)
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of all says nothing
	mine := milliseconds(took["driver"])
	b.ReportMetric(mine, "driver-p50-ms")
	for name := range others {
		theirs := milliseconds(took[name])
		b.ReportMetric(theirs, name+"-p50-ms")
		b.ReportMetric(mine/theirs, "x-"+name)
	}
}

func milliseconds(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}

func benchDriver(b *testing.B, server *openssh.Server, address string) func() error {
	b.Helper()
	conn := mustDial(b, Options{}, benchEndpoint(server, address))
	return func() error {
		_, err := conn.Exec(context.Background(), driver.Command{Argv: []string{"true"}}, driver.Streams{})
		return err
	}
}

func benchLibrary(b *testing.B, server *openssh.Server, address string) func() error {
	b.Helper()
	client := benchClient(b, server, address)
	return func() error {
		session, err := client.NewSession()
		if err != nil {
			return err
		}
		defer session.Close() //nolint:errcheck // it has ended
		return session.Run("'true'")
	}
}

func benchEndpoint(server *openssh.Server, address string) driver.Endpoint {
	pin := strings.SplitN(server.KnownHosts, " ", 2)[1] // whatever the host
	return endpointOf(address, server.User, pin, server.PrivateKey)
}

func benchClient(b *testing.B, server *openssh.Server, address string) *ssh.Client {
	b.Helper()
	signer, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		b.Fatal(err)
	}
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: server.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(server.HostKey), HostKeyAlgorithms: []string{server.HostKey.Type()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return client
}

func sshArguments(b *testing.B, server *openssh.Server, address string) []string {
	b.Helper()
	key := filepath.Join(b.TempDir(), "key")
	if err := os.WriteFile(key, server.PrivateKey, 0o600); err != nil {
		b.Fatal(err)
	}
	host, port, _ := strings.Cut(address, ":")
	return []string{
		"-F", "none", "-i", key, "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", server.User + "@" + host,
	}
}

// startMaster returns the arguments that reach a running master.
func startMaster(b *testing.B, server *openssh.Server, address string) []string {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "master")
	arguments := append([]string{"-S", socket}, sshArguments(b, server, address)...)
	var failed bytes.Buffer
	master := exec.Command("ssh", append([]string{"-M"}, append(arguments, "cat")...)...)
	master.Stderr = &failed
	stdin, _ := master.StdinPipe()
	stdout, _ := master.StdoutPipe()
	if err := master.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = master.Wait()
	})
	// The master echoes once it serves.
	_, _ = io.WriteString(stdin, "x")
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		b.Fatalf("start the master: %v: %s", err, &failed)
	}
	return arguments
}
