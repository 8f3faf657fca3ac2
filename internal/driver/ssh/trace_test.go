package ssh

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/sshserver"
)

// passed is one line of a trace.
type passed struct {
	Stage driver.Stage
	Found string
}

// tracing returns the endpoint with a trace, and what the trace was told.
func tracing(endpoint driver.Endpoint) (driver.Endpoint, *[]passed) {
	told := new([]passed)
	endpoint.Trace = func(stage driver.Stage, found string) { *told = append(*told, passed{stage, found}) }
	return endpoint, told
}

func TestATraceSaysWhatWasFound(t *testing.T) {
	server, endpoint := startEmbedded(t, sshserver.Options{Password: "right"})
	user, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	withPassword := endpoint
	withPassword.Credentials = map[string][]byte{"password": []byte("right")}
	tests := map[string]struct {
		endpoint driver.Endpoint
		login    string
	}{
		"with a key":      {endpoint, "anybody logged in with the key " + ssh.FingerprintSHA256(user.PublicKey())},
		"with a password": {withPassword, "anybody logged in with the password"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			endpoint, told := tracing(tc.endpoint)
			mustDial(t, Options{}, endpoint)
			want := []passed{
				{driver.StageBanner, "SSH-2.0-connpool_test"},
				{driver.StageKeyExchange, "the server has proved that it owns the key it shows"},
				{driver.StageHostKey, "the server showed the ssh-ed25519 key " + ssh.FingerprintSHA256(server.HostKey) + ", which hostKeys pin"},
				{driver.StageAuthentication, tc.login},
				{driver.StageSession, "session opened; whether a command runs in it, only a command shows"},
			}
			if diff := cmp.Diff(want, *told); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestATraceOfAWrongKeyEndsBeforeAuthentication(t *testing.T) {
	_, endpoint := startEmbedded(t, sshserver.Options{Password: "right"})
	endpoint.Credentials = map[string][]byte{"password": []byte("wrong-canary")}
	endpoint, told := tracing(endpoint)
	_, err := dialWith(t.Context(), Options{}, endpoint)
	wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
	if n := len(*told); n != 3 || (*told)[n-1].Stage != driver.StageHostKey {
		t.Errorf("told %v, want three stages up to the host key", *told)
	}
	for _, line := range *told {
		if strings.Contains(line.Found, "canary") {
			t.Errorf("a secret in %q", line.Found)
		}
	}
}

func TestATraceTellsOfAServerWithoutSessions(t *testing.T) {
	_, endpoint := startOpenSSH(t, "MaxSessions 0")
	endpoint.ForwardOnly = true
	endpoint, told := tracing(endpoint)
	mustDial(t, Options{}, endpoint)
	if last := (*told)[len(*told)-1]; last.Stage != driver.StageSession || !strings.Contains(last.Found, "no session") {
		t.Errorf("told %v at last, want that there is no session", last)
	}
}

func TestADialWithoutADescriptorLeftSaysSo(t *testing.T) {
	_, endpoint := startEmbedded(t, sshserver.Options{Password: "right"})
	endpoint.Dial = func(_ context.Context, network, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	_, err := dialWith(t.Context(), Options{}, endpoint)
	failure := wantError(t, err, driver.Unreachable, driver.StageConnect)
	if !strings.Contains(failure.Message, "file descriptor") {
		t.Errorf("message %q, want the cause", failure.Message)
	}
}
