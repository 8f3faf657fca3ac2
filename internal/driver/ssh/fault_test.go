package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
	"github.com/connpool/connpool/test/sshserver"
)

// patience bounds how long a test waits for what must happen.
const patience = 20 * time.Second

// brief returns the endpoint with a keepalive that notices faults soon.
func brief(endpoint driver.Endpoint) driver.Endpoint {
	endpoint.KeepaliveInterval, endpoint.KeepaliveTimeout = 100*time.Millisecond, 500*time.Millisecond
	return endpoint
}

// through returns the endpoint behind a proxy that can misbehave.
func through(t *testing.T, endpoint driver.Endpoint) (*netfault.Proxy, driver.Endpoint) {
	t.Helper()
	proxy, err := netfault.Start(endpoint.Address, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	endpoint.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, proxy.Addr)
	}
	return proxy, endpoint
}

func wantError(t *testing.T, err error, reason driver.Reason, stage driver.Stage) *driver.Error {
	t.Helper()
	var got *driver.Error
	if !errors.As(err, &got) {
		t.Fatalf("error %v, want %s", err, reason)
	}
	if got.Reason != reason || got.Stage != stage {
		t.Errorf("%s at %q (%s), want %s at %q", got.Reason, got.Stage, got.Message, reason, stage)
	}
	return got
}

// wantDeath returns how long the connection took to die of the reason.
func wantDeath(t *testing.T, conn driver.Conn, reason driver.Reason, stage driver.Stage) {
	t.Helper()
	select {
	case <-conn.Context().Done():
		wantError(t, context.Cause(conn.Context()), reason, stage)
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
}

func run(conn driver.Execer, line string) (string, error) {
	var stdout bytes.Buffer
	_, err := conn.Exec(context.Background(), driver.Command{Shell: line}, driver.Streams{Stdout: &stdout})
	return stdout.String(), err
}

func mustRun(t *testing.T, conn driver.Execer) {
	t.Helper()
	if out, err := run(conn, "echo served"); out != "served\n" || err != nil {
		t.Errorf("output %q, error %v", out, err)
	}
}

func TestAnIdleConnectionThatTheRemoteKillsIsNoticed(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, endpoint)
	begin := time.Now()
	server.KillConnections()
	wantDeath(t, conn, driver.Unreachable, driver.StageRun)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("noticed after %s, want at once, and not by a keepalive", took)
	}
}

func TestAWarmConnectionServesWhileItsListenerIsGone(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, endpoint)
	server.StopListener()
	mustRun(t, conn)
	_, err := dialWith(t.Context(), Options{}, endpoint)
	wantError(t, err, driver.Unreachable, driver.StageConnect)
	mustRun(t, conn)
}

func TestAFrozenServerIsNoticed(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, brief(endpoint))
	server.Freeze()
	wantDeath(t, conn, driver.Timeout, driver.StageKeepalive)
	_, err := run(conn, "true")
	if got := driver.OutcomeOf(err); got != driver.NotStarted {
		t.Errorf("a command after that: outcome %s, want %s", got, driver.NotStarted)
	}
}

func TestPacketsDroppedBothWaysAreNoticed(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	proxy, endpoint := through(t, endpoint)
	conn := mustDial(t, Options{}, brief(endpoint))
	proxy.Set(netfault.DropBoth)
	wantDeath(t, conn, driver.Timeout, driver.StageKeepalive)
}

func TestACommandWhoseReplyIsLostIsUnknownAndRanOnce(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	proxy, endpoint := through(t, endpoint)
	conn := mustDial(t, Options{}, brief(endpoint))
	mustRun(t, conn)
	proxy.Set(netfault.DropReplies)
	journal := filepath.Join(t.TempDir(), "journal")
	_, err := run(conn, "echo id >> "+journal)
	if got := driver.OutcomeOf(err); got != driver.Unknown {
		t.Errorf("outcome %s (%v), want %s", got, err, driver.Unknown)
	}
	if text := awaitText(t, journal); text != "id\n" {
		t.Errorf("the journal holds %q, want one line", text)
	}
}

// awaitText reads a file to which a command writes that may still be starting.
func awaitText(t *testing.T, path string) string {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			return string(text)
		}
	}
	t.Fatalf("nothing was written to %s", path)
	return ""
}

func TestAResetInMidStreamIsUnknownWithAnExactPrefix(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	proxy, endpoint := through(t, endpoint)
	conn := mustDial(t, Options{}, endpoint)
	output := new(prefix)
	output.after(1<<20, proxy.Reset)
	_, err := conn.Exec(t.Context(), driver.Command{Shell: "seq 1 100000000"}, driver.Streams{Stdout: output})
	if got := driver.OutcomeOf(err); got != driver.Unknown {
		t.Errorf("outcome %s (%v), want %s", got, err, driver.Unknown)
	}
	output.check(t)
}

// prefix is a writer that keeps what it gets and does something in the middle.
type prefix struct {
	bytes.Buffer

	limit int
	once  sync.Once
	then  func()
}

func (p *prefix) after(limit int, then func()) { p.limit, p.then = limit, then }

func (p *prefix) Write(data []byte) (int, error) {
	n, err := p.Buffer.Write(data)
	if p.Len() > p.limit {
		p.once.Do(p.then)
	}
	return n, err
}

func (p *prefix) check(t *testing.T) {
	t.Helper()
	text := p.String()
	var want strings.Builder
	for i := 1; want.Len() < len(text); i++ {
		_, _ = fmt.Fprintln(&want, i)
	}
	if !strings.HasPrefix(want.String(), text) {
		t.Error("the output is not a prefix of what was sent")
	}
}

func TestAChangedHostKeyStopsBeforeAuthentication(t *testing.T) {
	pinned, _ := startOpenSSH(t)
	server, endpoint := startOpenSSH(t)
	endpoint.KnownHosts = ssh.MarshalAuthorizedKey(pinned.HostKey)
	_, err := dialWith(t.Context(), Options{}, endpoint)
	got := wantError(t, err, driver.HostKeyMismatch, driver.StageHostKey)
	for _, key := range []ssh.PublicKey{pinned.HostKey, server.HostKey} {
		if !strings.Contains(got.Message, ssh.FingerprintSHA256(key)) {
			t.Errorf("message %q does not name %s", got.Message, ssh.FingerprintSHA256(key))
		}
	}
	if got.RetryAfter != 5*time.Minute {
		t.Errorf("retry after %s, want 5m", got.RetryAfter)
	}
	server.Stop()
	if log := server.Log(); strings.Contains(log, "authenticating user") || strings.Contains(log, "Failed") {
		t.Errorf("authentication was attempted:\n%s", log)
	}
}

func TestTheHostKeyAskedForIsThePinnedOne(t *testing.T) {
	// The server has an ed25519 and an ECDSA key, and prefers to show the former.
	server, endpoint := startOpenSSH(t)
	public, err := os.ReadFile(filepath.Join(server.Dir, "host_key_1"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.ParsePrivateKey(public)
	if err != nil {
		t.Fatal(err)
	}
	endpoint.KnownHosts = ssh.MarshalAuthorizedKey(second.PublicKey())
	mustRun(t, mustDial(t, Options{}, endpoint))
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func TestAWrongKeyIsOfferedOnce(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	key, text := newKey(t)
	endpoint.Credentials = map[string][]byte{"ssh-privatekey": text}
	_, err := dialWith(t.Context(), Options{}, endpoint)
	got := wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
	for _, part := range []string{endpoint.User + "@" + endpoint.Address, ssh.FingerprintSHA256(key.PublicKey())} {
		if !strings.Contains(got.Message, part) {
			t.Errorf("message %q does not name %s", got.Message, part)
		}
	}
	server.Stop()
	if attempts := strings.Count(server.Log(), "Failed publickey"); attempts != 1 {
		t.Errorf("%d attempts, want 1:\n%s", attempts, server.Log())
	}
}

func TestSessionsBeyondTheServersLimitAreRefusedAndNoneWithinIt(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) { testLimit(t, limit) })
	}
}

func testLimit(t *testing.T, limit int) {
	t.Helper()
	_, endpoint := startOpenSSH(t, fmt.Sprint("MaxSessions ", limit))
	conn := mustDial(t, Options{}, endpoint)
	var held sync.WaitGroup
	release := make(chan struct{})
	running := make(chan struct{}, limit)
	for range limit {
		held.Go(func() {
			stdin, feed := io.Pipe()
			go func() {
				<-release
				_ = feed.Close()
			}()
			_, err := conn.Exec(t.Context(), driver.Command{Shell: "echo running; cat"},
				driver.Streams{Stdin: stdin, Stdout: tell(running)})
			if err != nil {
				t.Errorf("within the limit: %v", err)
			}
		})
	}
	for range limit {
		<-running
	}
	_, err := run(conn, "true")
	refused := wantError(t, err, driver.SessionLimit, driver.StageSession)
	if refused.Started {
		t.Error("the refused command counts as started")
	}
	close(release)
	held.Wait()
	var again sync.WaitGroup
	for range limit {
		again.Go(func() {
			for range 20 {
				mustRun(t, conn)
			}
		})
	}
	again.Wait()
}

// tell is a writer that announces every write.
type tell chan<- struct{}

func (c tell) Write(p []byte) (int, error) {
	c <- struct{}{}
	return len(p), nil
}

func TestAServerWithoutSessionsIsOfUseAsAJumpHostOnly(t *testing.T) {
	for name, start := range map[string]func() driver.Endpoint{
		"MaxSessions 0": func() driver.Endpoint {
			_, endpoint := startOpenSSH(t, "MaxSessions 0")
			return endpoint
		},
		"unknown channel type": func() driver.Endpoint {
			_, endpoint := startEmbedded(t, sshserver.Options{Password: "right", ForwardOnly: true})
			return endpoint
		},
	} {
		t.Run(name, func(t *testing.T) {
			jumpEndpoint := start()
			_, err := dialWith(t.Context(), Options{}, jumpEndpoint)
			refused := wantError(t, err, driver.SessionLimit, driver.StageSession)
			if !strings.Contains(refused.Message, "jump host") {
				t.Errorf("message %q, want that it is of use as a jump host", refused.Message)
			}
			jumpEndpoint.ForwardOnly = true
			jumpHost := mustDial(t, Options{}, jumpEndpoint)
			_, inner := startOpenSSH(t)
			inner.Dial = jumpHost.Forward
			mustRun(t, mustDial(t, Options{}, inner))
		})
	}
}

func TestAConnectionDiesWithItsJumpHost(t *testing.T) {
	server, jumpEndpoint := startOpenSSH(t)
	_, inner := startOpenSSH(t)
	jumpHost := mustDial(t, Options{}, brief(jumpEndpoint))
	inner.Dial = jumpHost.Forward
	conn := mustDial(t, Options{}, inner)
	server.Freeze()
	wantDeath(t, jumpHost, driver.Timeout, driver.StageKeepalive)
	wantDeath(t, conn, driver.Unreachable, driver.StageRun)
}

func TestEnvironmentAndSubsystemReachTheServer(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, endpoint)
	var stdout bytes.Buffer
	_, err := conn.Exec(t.Context(), driver.Command{
		Shell: `echo "$CONNPOOL_A-$CONNPOOL_B"`, Env: map[string]string{"CONNPOOL_A": "a b", "CONNPOOL_B": "$c"},
	}, driver.Streams{Stdout: &stdout})
	if err != nil || stdout.String() != "a b-$c\n" {
		t.Errorf("output %q, error %v", stdout.String(), err)
	}
	stdout.Reset()
	stdin, feed := io.Pipe()
	go feed.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}) //nolint:errcheck // sftp's SSH_FXP_INIT, version 3
	answer := new(prefix)
	answer.after(8, func() { _ = feed.Close() })
	status, err := conn.Exec(t.Context(), driver.Command{Subsystem: "sftp"}, driver.Streams{Stdin: stdin, Stdout: answer})
	if err != nil || status.Code != 0 || answer.Bytes()[4] != 2 {
		t.Errorf("status %+v, error %v, output %q", status, err, answer.Bytes())
	}
	_, err = conn.Exec(t.Context(), driver.Command{Subsystem: "no-such"}, driver.Streams{})
	if refused := wantError(t, err, driver.ProtocolError, driver.StageStart); refused.Started {
		t.Error("a refused subsystem counts as started")
	}
}

func TestRekeysThatFollowDataEndNoConnection(t *testing.T) {
	for _, limit := range []string{"1M", "4M"} {
		t.Run(limit, func(t *testing.T) {
			_, endpoint := startOpenSSH(t, "RekeyLimit "+limit)
			conn := mustDial(t, Options{}, endpoint)
			const size = 200 << 20
			for name, streams := range map[string]driver.Streams{
				"output": {}, "input": {Stdin: io.LimitReader(zeros{}, size)},
			} {
				line := fmt.Sprintf("head -c %d /dev/zero", size)
				if streams.Stdin != nil {
					line = "wc -c"
				}
				var count counter
				streams.Stdout = &count
				status, err := conn.Exec(t.Context(), driver.Command{Shell: line}, streams)
				if err != nil || status.Code != 0 || streams.Stdin == nil && count != size {
					t.Errorf("%s: %+v, %v after %d bytes", name, status, err, count)
				}
			}
			mustRun(t, conn)
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type counter int64

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// reconfigure changes what the server's configuration says, for later connections.
func reconfigure(t *testing.T, server *openssh.Server, from, to string) {
	t.Helper()
	path := filepath.Join(server.Dir, "sshd_config")
	config, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(config, []byte(from)) {
		t.Fatalf("%q is not configured: %v", from, err)
	}
	if err := os.WriteFile(path, bytes.Replace(config, []byte(from), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	server.StopListener()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestACommandDoesNotRunWithoutAVariableThatTheServerRefuses(t *testing.T) {
	server, endpoint := startOpenSSH(t)
	reconfigure(t, server, "AcceptEnv *", "AcceptEnv LC_*")
	conn := mustDial(t, Options{}, endpoint)
	ran := filepath.Join(server.Dir, "ran")
	command := driver.Command{Shell: "touch " + ran, Env: map[string]string{"LC_STAGE": "prod", "STAGE": "prod"}}
	_, err := conn.Exec(t.Context(), command, driver.Streams{})
	refused := wantError(t, err, driver.ProtocolError, driver.StageStart)
	if refused.Started || !strings.Contains(refused.Message, "variable STAGE") || strings.Contains(refused.Message, "prod") {
		t.Errorf("started %t: %s", refused.Started, refused.Message)
	}
	mustRun(t, conn)
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command ran all the same")
	}
	delete(command.Env, "STAGE")
	command.Shell = "echo $LC_STAGE"
	var stdout bytes.Buffer
	if _, err := conn.Exec(t.Context(), command, driver.Streams{Stdout: &stdout}); err != nil || stdout.String() != "prod\n" {
		t.Errorf("output %q, error %v", stdout.String(), err)
	}
}

func TestOutputThatNobodyReadsHoldsUpThatCommandAlone(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, endpoint)
	const size = 64 << 20
	before := heap()
	stuck := &stuckWriter{reached: make(chan struct{}), release: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), driver.Command{Shell: fmt.Sprintf("head -c %d /dev/zero", size)},
			driver.Streams{Stdout: stuck})
		ended <- err
	}()
	<-stuck.reached
	for range 10 {
		mustRun(t, conn)
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	close(stuck.release)
	if err := <-ended; err != nil || stuck.bytes != size {
		t.Errorf("%d bytes of %d arrived, error %v", stuck.bytes, size, err)
	}
}

// stuckWriter blocks its first write until it is released.
type stuckWriter struct {
	once             sync.Once
	reached, release chan struct{}
	bytes            int
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.reached) })
	<-s.release
	s.bytes += len(p)
	return len(p), nil
}
