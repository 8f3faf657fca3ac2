package integration

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
)

const (
	yes = metav1.ConditionTrue
	no  = metav1.ConditionFalse
)

// fixture is one warm pool to one real sshd.
type fixture struct {
	server *openssh.Server
	secret *corev1.Secret
	target *v1alpha1.ConnectionTarget
	pool   *v1alpha1.ConnectionPool
}

func warm(t *testing.T, server *openssh.Server, edits ...func(*v1alpha1.ConnectionPoolSpec)) fixture {
	t.Helper()
	space := namespace(t)
	f := fixture{
		server: server,
		secret: credentials(space, "web-ssh", server),
		target: target(space, "web", server, "web-ssh"),
		pool:   pool(space, "web", "web", edits...),
	}
	create(t, f.pool, f.target, f.secret)
	t.Cleanup(func() { _ = env.client.Delete(context.Background(), f.target) })
	condition(t, 20*time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	condition(t, 10*time.Second, f.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	return f
}

func (f fixture) request() poolset.Request {
	return poolset.Request{Pool: string(f.pool.UID), Target: string(f.target.UID)}
}

func (f fixture) mustEcho(t *testing.T, word string) {
	t.Helper()
	out, err := execute(t, f.pool, f.target, "echo", word)
	if err != nil || out != word+"\n" {
		t.Fatalf("echo %s: %q, %v", word, out, err)
	}
}

func size(minWarm, limit int32) func(*v1alpha1.ConnectionPoolSpec) {
	return func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.Size = v1alpha1.PoolSize{MinWarm: &minWarm, Max: &limit}
	}
}

func TestAPoolGetsWarmAndRunsCommands(t *testing.T) {
	f := warm(t, startSSHD(t), size(2, 4))
	connected(t, 10*time.Second, f.pool, f.target, 2)
	f.mustEcho(t, "hello")

	condition(t, time.Second, f.target, v1alpha1.ConditionCredentialsReady, yes, v1alpha1.ReasonCredentialsValid)
	condition(t, time.Second, f.target, v1alpha1.ConditionReachable, yes, v1alpha1.ReasonConnected)
	status := f.target.Status
	if status.ServerVersion == nil || !strings.Contains(*status.ServerVersion, "OpenSSH") {
		t.Errorf("serverVersion = %v, want OpenSSH's", status.ServerVersion)
	}
	if status.Replica == nil || *status.Replica != "replica-1" {
		t.Errorf("replica = %v", status.Replica)
	}
	if isTrue(f.target, v1alpha1.ConditionReconciling) || isTrue(f.target, v1alpha1.ConditionStalled) {
		t.Errorf("a ready target is reconciling or stalled: %v", status.Conditions)
	}
	eventually(t, 75*time.Second, "the figures follow", func() (bool, string) {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(f.pool), f.pool); err != nil {
			return false, err.Error()
		}
		s := f.pool.Status
		return s.Connections.Warm != nil && *s.Connections.Warm == 2 && s.UseCount != nil && *s.UseCount == 1 &&
			s.OldestConnectionTime != nil && s.LastUsedTime != nil && *s.Targets.Ready == 1, fmt.Sprintf("%+v", s)
	})
}

// F01.
func TestAKilledIdleConnectionIsReplaced(t *testing.T) {
	f := warm(t, startSSHD(t))
	before := observe(f.pool, f.target).Oldest
	f.server.KillConnections()
	eventually(t, 3*time.Second, "the connection is replaced", func() (bool, string) {
		now := observe(f.pool, f.target)
		return now.Warm() == 1 && now.Oldest.After(before), now.Oldest.String()
	})
	f.mustEcho(t, "again")
	condition(t, time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// The server goes away for a while and comes back.
func TestAPoolComesBackWithItsServer(t *testing.T) {
	f := warm(t, startSSHD(t))
	f.server.StopListener()
	f.server.KillConnections()
	condition(t, 30*time.Second, f.target, v1alpha1.ConditionReady, no, v1alpha1.ReasonUnreachable)
	condition(t, 5*time.Second, f.target, v1alpha1.ConditionReconciling, yes, v1alpha1.ReasonRetrying)
	condition(t, 5*time.Second, f.pool, v1alpha1.ConditionReady, no, v1alpha1.ReasonTargetsFailing)
	if err := f.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	condition(t, 75*time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	condition(t, 5*time.Second, f.pool, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	f.mustEcho(t, "back")
}

// Requests need not wait for the backoff.
func TestAHostThatIsBackServesRequestsWithinTwoSeconds(t *testing.T) {
	f := warm(t, startSSHD(t))
	f.server.StopListener()
	f.server.KillConnections()
	eventually(t, time.Minute, "the next dial is some seconds away", func() (bool, string) {
		dial := observe(f.pool, f.target).Dial
		return dial.Failures > 0 && time.Until(dial.Next) > 5*time.Second, fmt.Sprintf("%+v", dial)
	})
	if err := f.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, connpool.InsistGap+time.Second, "a request is served", func() (bool, string) {
		printed, err := execute(t, f.pool, f.target, "echo", "back")
		return err == nil && printed == "back\n", errorText(err)
	})
}

// F03.
func TestWarmConnectionsServeWhileTheListenerIsGone(t *testing.T) {
	f := warm(t, startSSHD(t), size(1, 2), func(spec *v1alpha1.ConnectionPoolSpec) {
		spec.SessionsPerConnection = new(int32(1))
		spec.Acquire.TimeoutSeconds = new(int32(5))
	})
	f.server.StopListener()
	lease, err := env.pools.Acquire(t.Context(), f.request())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := env.pools.Acquire(t.Context(), f.request()); err == nil {
		second.Release()
		t.Fatal("a second connection was made without a listener")
	}
	lease.Release()
	found := condition(t, 15*time.Second, f.target, v1alpha1.ConditionReachable, no, v1alpha1.ReasonUnreachable)
	if !strings.Contains(found.Message, "refuses") {
		t.Errorf("message %q does not say that the connection is refused", found.Message)
	}
	for range 20 {
		f.mustEcho(t, "still here")
	}
	condition(t, time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if err := f.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	condition(t, 75*time.Second, f.target, v1alpha1.ConditionReachable, yes, v1alpha1.ReasonConnected)
}

// F04.
func TestAFrozenServerIsNoticedAndReplaced(t *testing.T) {
	f := warm(t, startSSHD(t))
	before := observe(f.pool, f.target).Oldest
	f.server.Freeze()
	t.Cleanup(f.server.Thaw)
	connected(t, 15*time.Second, f.pool, f.target, 0)
	f.server.Thaw()
	eventually(t, 30*time.Second, "the connection is replaced", func() (bool, string) {
		now := observe(f.pool, f.target)
		return now.Warm() == 1 && now.Oldest.After(before), now.Oldest.String()
	})
}

// F05.
func TestSilentPacketLossIsNoticed(t *testing.T) {
	server := startSSHD(t)
	proxy, err := netfault.Start(server.Addr, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f := warm(t, through(server, proxy))
	proxy.Set(netfault.DropBoth)
	connected(t, 15*time.Second, f.pool, f.target, 0)
	proxy.Set(netfault.None)
	proxy.Reset()
	condition(t, 75*time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// through returns the server as clients reach it through the proxy.
func through(server *openssh.Server, proxy *netfault.Proxy) *openssh.Server {
	key := ssh.MarshalAuthorizedKey(server.HostKey)
	return &openssh.Server{Addr: proxy.Addr, User: server.User, PrivateKey: server.PrivateKey, KnownHosts: string(key)}
}

// F13.
func TestAChangedHostKeySeesNoCredentials(t *testing.T) {
	server, other := startSSHD(t), startSSHD(t)
	space := namespace(t)
	ct := target(space, "web", server, "web-ssh")
	ct.Spec.SSH.HostKeys.KnownHosts = []string{string(ssh.MarshalAuthorizedKey(other.HostKey))}
	p := pool(space, "web", "web", size(3, 4))
	create(t, credentials(space, "web-ssh", server), ct, p)
	found := condition(t, 15*time.Second, ct, v1alpha1.ConditionReady, no, v1alpha1.ReasonHostKeyMismatch)
	for _, key := range []ssh.PublicKey{server.HostKey, other.HostKey} {
		if !strings.Contains(found.Message, ssh.FingerprintSHA256(key)) {
			t.Errorf("message %q lacks the fingerprint %s", found.Message, ssh.FingerprintSHA256(key))
		}
	}
	condition(t, time.Second, ct, v1alpha1.ConditionStalled, yes, v1alpha1.ReasonHostKeyMismatch)
	if dials := observe(p, ct).DialFailures[driver.HostKeyMismatch]; dials > 3 {
		t.Errorf("%d dials failed for 3 wanted connections", dials)
	}
	eventually(t, 10*time.Second, "sshd has logged the handshake", func() (bool, string) {
		log := server.Log()
		return strings.Contains(log, "[preauth]"), log
	})
	if log := server.Log(); strings.Count(log, "[preauth]") != 1 || strings.Contains(log, "Accepted") || strings.Contains(log, "Failed ") {
		t.Errorf("not exactly one handshake, or an authentication attempt, in sshd's log:\n%s", log)
	}
	change(t, ct, func(ct *v1alpha1.ConnectionTarget) {
		ct.Spec.SSH.HostKeys.KnownHosts = []string{strings.TrimSpace(server.KnownHosts)}
	})
	condition(t, 15*time.Second, ct, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// F14.
func TestARotatedSecretReplacesTheConnections(t *testing.T) {
	f := warm(t, startSSHD(t), size(2, 4))
	connected(t, 10*time.Second, f.pool, f.target, 2)
	stop := hammer(t, f)
	key := newKey(t)
	if err := f.server.Authorize(key.public); err != nil {
		t.Fatal(err)
	}
	rotated := time.Now()
	change(t, f.secret, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = key.private })
	eventually(t, 60*time.Second, "every connection is made with the new key", func() (bool, string) {
		now := observe(f.pool, f.target)
		return now.Warm() >= 2 && now.Oldest.After(rotated) && now.Draining == 0, now.Oldest.String()
	})
	stop()
}

// hammer runs commands until stop is called. The test fails if one of them fails.
func hammer(t *testing.T, f fixture) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request := f.request() // now, because the test reads the objects of the fixture again
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				err := executeIn(t.Context(), request, driver.Command{Argv: []string{"true"}}, driver.Streams{})
				if err != nil {
					t.Errorf("a command failed: %v", err)
					return
				}
			}
		})
	}
	return func() { cancel(); workers.Wait() }
}

type keyPair struct {
	private []byte
	public  ssh.PublicKey
}

func newKey(t *testing.T) keyPair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{private: pem.EncodeToMemory(block), public: sshPublic}
}

// F15.
func TestASecretRotatedToSomethingWrongKeepsTheOldConnections(t *testing.T) {
	tests := map[string]func(*testing.T) []byte{
		"a key that the server refuses": func(t *testing.T) []byte { return newKey(t).private },
		"something that is no key":      func(*testing.T) []byte { return []byte(canary) },
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			f := warm(t, startSSHD(t))
			stop := hammer(t, f)
			good := f.secret.Data["ssh-privatekey"]
			change(t, f.secret, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = content(t) })
			condition(t, 20*time.Second, f.target, v1alpha1.ConditionCredentialsReady, no, v1alpha1.ReasonCredentialsInvalid)
			condition(t, time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
			f.mustEcho(t, "still here")
			stop()
			change(t, f.secret, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = good })
			condition(t, 20*time.Second, f.target, v1alpha1.ConditionCredentialsReady, yes, v1alpha1.ReasonCredentialsValid)
		})
	}
}

// F16.
func TestADeletedSecretEndsTheConnectionsAfterWhatRuns(t *testing.T) {
	f := warm(t, startSSHD(t))
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := execute(t, f.pool, f.target, "sh", "-c", "sleep 3; echo finished")
		done <- result{out, err}
	}()
	eventually(t, 5*time.Second, "the command runs", func() (bool, string) { return observe(f.pool, f.target).Leases == 1, "" })
	remove(t, f.secret)
	condition(t, 10*time.Second, f.target, v1alpha1.ConditionCredentialsReady, no, v1alpha1.ReasonCredentialsMissing)
	if got := <-done; got.err != nil || got.out != "finished\n" {
		t.Errorf("the running command ended with %q, %v", got.out, got.err)
	}
	if _, err := execute(t, f.pool, f.target, "true"); !errors.Is(err, poolset.ErrUnknownPool) {
		t.Errorf("a new command: %v, want no such pool", err)
	}
	eventually(t, 45*time.Second, "all connections are closed", func() (bool, string) { return f.server.Connections() == 0, "" })
	f.secret.ResourceVersion, f.secret.UID = "", ""
	create(t, f.secret)
	condition(t, 20*time.Second, f.target, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// wantOneAttempt fails the test if a wrong key was offered more often than once, and once
// more after each of the early waits that have passed since.
func wantOneAttempt(t *testing.T, log string, since time.Time) {
	t.Helper()
	most := 1
	for _, early := range []time.Duration{15 * time.Second, 75 * time.Second} {
		if time.Since(since) >= early {
			most++
		}
	}
	if attempts := strings.Count(log, "Failed publickey"); attempts < 1 || attempts > most {
		t.Errorf("%d authentication attempts with the wrong key after %s, want 1 to %d; sshd's log:\n%s",
			attempts, time.Since(since), most, log)
	}
}

// F17.
func TestAWrongKeyCostsOneAttemptAndHurtsNoOtherTarget(t *testing.T) {
	begin := time.Now()
	f := warm(t, startSSHD(t, "LogLevel VERBOSE"))
	wrong := f.secret.DeepCopy()
	wrong.ObjectMeta = metav1.ObjectMeta{Namespace: f.secret.Namespace, Name: "wrong", Labels: f.secret.Labels}
	wrong.Data["ssh-privatekey"] = newKey(t).private
	bad := target(f.secret.Namespace, "bad", f.server, "wrong")
	create(t, wrong, bad,
		pool(f.secret.Namespace, "bad-1", "bad", size(3, 4)), pool(f.secret.Namespace, "bad-2", "bad", size(3, 4)))
	condition(t, 20*time.Second, bad, v1alpha1.ConditionReady, no, v1alpha1.ReasonAuthenticationFailed)
	condition(t, time.Second, bad, v1alpha1.ConditionStalled, yes, v1alpha1.ReasonAuthenticationFailed)
	f.mustEcho(t, "not my problem")
	wantOneAttempt(t, f.server.Log(), begin)
	change(t, wrong, func(s *corev1.Secret) { s.Data["ssh-privatekey"] = f.server.PrivateKey })
	condition(t, 20*time.Second, bad, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
}

// F19.
func TestTheServersSessionLimitIsLearnedWithoutFailures(t *testing.T) {
	f := warm(t, startSSHD(t, "MaxSessions 2"), size(1, 4))
	var commands sync.WaitGroup
	for range 24 {
		commands.Go(func() {
			if _, err := execute(t, f.pool, f.target, "sleep", "0.2"); err != nil {
				t.Errorf("a command failed: %v", err)
			}
		})
	}
	commands.Wait()
	if learned := observe(f.pool, f.target).Cap; learned < 1 || learned > 2 {
		t.Errorf("learned cap %d, want 1 or 2", learned)
	}
}

// F32.
func TestADeletedTargetGoesAtOnceAlthoughItsHostIsABlackHole(t *testing.T) {
	server := startSSHD(t)
	proxy, err := netfault.Start(server.Addr, netfault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f := warm(t, through(server, proxy))
	done := make(chan error, 1)
	go func() {
		_, err := execute(t, f.pool, f.target, "sleep", "600")
		done <- err
	}()
	eventually(t, 5*time.Second, "the command runs", func() (bool, string) { return observe(f.pool, f.target).Leases == 1, "" })
	proxy.Set(netfault.DropBoth)
	remove(t, f.target)
	eventually(t, time.Second, "the object is gone", func() (bool, string) {
		return apierrors.IsNotFound(env.client.Get(t.Context(), client.ObjectKeyFromObject(f.target), &v1alpha1.ConnectionTarget{})), ""
	})
	eventually(t, 5*time.Second, "new requests do not find it", func() (bool, string) {
		_, err := env.pools.Acquire(t.Context(), f.request())
		return errors.Is(err, poolset.ErrUnknownPool), ""
	})
	select {
	case err := <-done:
		if driver.OutcomeOf(err) != driver.Unknown {
			t.Errorf("the command that ran ended with %v, want an unknown outcome", err)
		}
	case <-time.After(45 * time.Second):
		t.Error("the command still hangs after 45 s")
	}
}

// F33.
func TestANamesakeInheritsNothing(t *testing.T) {
	f := warm(t, startSSHD(t))
	other := startSSHD(t)
	old := f.request()
	remove(t, f.target, f.secret)
	secret := credentials(f.secret.Namespace, f.secret.Name, other)
	namesake := target(f.target.Namespace, f.target.Name, other, f.secret.Name)
	create(t, secret, namesake)
	condition(t, 20*time.Second, namesake, v1alpha1.ConditionReady, yes, v1alpha1.ReasonWarm)
	if _, err := env.pools.Acquire(t.Context(), old); !errors.Is(err, poolset.ErrUnknownTarget) {
		t.Errorf("a request for the old object: %v, want no such target", err)
	}
	_, port := split(other.Addr)
	out, err := execute(t, f.pool, namesake, "sh", "-c", "echo $SSH_CONNECTION")
	if err != nil || !strings.HasSuffix(strings.TrimSpace(out), " "+itoa(port)) {
		t.Errorf("the command ran at %q (%v), want port %d", out, err, port)
	}
	eventually(t, 45*time.Second, "the old connections are closed", func() (bool, string) { return f.server.Connections() == 0, "" })
	if namesake.UID == types.UID(old.Target) {
		t.Fatal("the namesake has the same UID")
	}
}
