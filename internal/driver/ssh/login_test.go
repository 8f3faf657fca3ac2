package ssh

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/openssh"
)

// TestAServiceThatIsNotSSHIsNamedWithoutItsWords keeps who may write targets from reading
// what other services say.
func TestAServiceThatIsNotSSHIsNamedWithoutItsWords(t *testing.T) {
	for name, tc := range map[string]struct{ says, want string }{
		"HTTP":                 {"HTTP/1.1 400 Bad Request\r\nX: canary\r\n\r\n", "seems to speak HTTP"},
		"a web page":           {"<html>canary", "seems to speak HTTP"},
		"SMTP":                 {"220 canary ESMTP Postfix\r\n", "seems to speak SMTP"},
		"FTP":                  {"220 (vsFTPd canary)\r\n", "seems to speak FTP"},
		"TLS":                  {"\x15\x03\x01\x00\x02\x02\x46canary", "seems to speak TLS"},
		"IMAP":                 {"* OK canary\r\n", "seems to speak IMAP"},
		"POP3":                 {"+OK canary\r\n", "seems to speak POP3"},
		"Redis":                {"-ERR canary\r\n", "seems to speak Redis"},
		"Telnet":               {"\xff\xfd\x18canary", "seems to speak Telnet"},
		"MySQL":                {"\x4a\x00\x00\x00\x0acanary", "seems to speak MySQL"},
		"VNC":                  {"RFB 003.008\ncanary", "seems to speak VNC"},
		"nothing that we know": {"canary\x1b[31m\r\n", "is not an SSH server"},
	} {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = func(conn net.Conn) {
					_, _ = io.WriteString(conn, tc.says)
					conn.(memoryConn).out.Close()
				}
				_, _, err := w.dial(t)
				got := wantError(t, err, driver.ProtocolError, driver.StageBanner)
				if !strings.Contains(got.Message, tc.want) || strings.Contains(got.Message, "canary") {
					t.Errorf("message %q, want %q in it", got.Message, tc.want)
				}
			})
		})
	}
}

func TestTheServersWordsStandInEveryFailureOfTheLogin(t *testing.T) {
	const banner = "*****\nYour account is locked:\x1b[31m call 555-1234\n*****\n"
	for name, tc := range map[string]struct {
		before string // the version
		banner string
		refuse func(net.Conn) error
		reason driver.Reason
		want   string
	}{
		"a refusal": {
			banner: banner, reason: driver.AuthenticationFailed, want: ". The server said: Your account is locked:[31m call 555-1234",
			refuse: func(net.Conn) error { return errors.New("no") },
		},
		"a cut": {
			banner: banner, reason: driver.Unreachable, want: "The server said: Your account is locked:",
			refuse: func(conn net.Conn) error { return conn.Close() },
		},
		"silence": {
			banner: banner, reason: driver.Timeout, want: "The server said: Your account is locked:",
			refuse: func(net.Conn) error { time.Sleep(time.Hour); return nil },
		},
		"words before the version": {
			before: "down for repair\r\n", reason: driver.AuthenticationFailed, want: "The server said: down for repair",
			refuse: func(net.Conn) error { return errors.New("no") },
		},
		"no words": {
			reason: driver.AuthenticationFailed, want: "or replace the Secret",
			refuse: func(net.Conn) error { return errors.New("no") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.server = func(conn net.Conn) {
					config := w.config()
					config.BannerCallback = func(ssh.ConnMetadata) string { return tc.banner }
					config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, tc.refuse(conn) }
					_, _ = io.WriteString(conn, tc.before)
					w.handshake(config, nil)(conn)
				}
				_, _, err := w.dial(t)
				got := wantError(t, err, tc.reason, driver.StageAuthentication)
				if !strings.Contains(got.Message, tc.want) || tc.banner+tc.before == "" && strings.Contains(got.Message, "said") {
					t.Errorf("message %q, want %q in it", got.Message, tc.want)
				}
			})
		})
	}
}

// slowly is a server whose greeting or answer to the login takes its time.
func slowly(w *env, greeting, login time.Duration) hostile {
	return func(conn net.Conn) {
		time.Sleep(greeting)
		config := w.config()
		config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			time.Sleep(login)
			return nil, nil
		}
		w.handshake(config, func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) { acceptAll(channels, ignore) })(conn)
	}
}

func TestASlowLoginIsWaitedForAsLongAsTheTargetSays(t *testing.T) {
	for name, tc := range map[string]struct {
		greeting, login, limit time.Duration
		stage                  driver.Stage // of the timeout; empty: it succeeds
		after                  string
	}{
		"a greeting within the usual 10 s":   {greeting: 9 * time.Second},
		"a greeting of 12 s":                 {greeting: 12 * time.Second, stage: driver.StageBanner, after: "10s"},
		"a greeting of 12 s, waited for":     {greeting: 12 * time.Second, limit: 20 * time.Second},
		"a greeting of 21 s, not waited for": {greeting: 21 * time.Second, limit: 20 * time.Second, stage: driver.StageBanner, after: "20s"},
		"an answer of 12 s":                  {login: 12 * time.Second, stage: driver.StageAuthentication, after: "10s"},
		"an answer of 12 s, waited for":      {login: 12 * time.Second, limit: 30 * time.Second},
		"less than usual":                    {login: 6 * time.Second, limit: 5 * time.Second, stage: driver.StageAuthentication, after: "5s"},
	} {
		t.Run(name, func(t *testing.T) {
			inEnv(t, func(t *testing.T, w *env) {
				w.endpoint.LoginTimeout = tc.limit
				w.server = slowly(w, tc.greeting, tc.login)
				conn, _, err := w.dial(t)
				if tc.stage == "" {
					if err != nil {
						t.Fatal(err)
					}
					_ = conn.Close()
					return
				}
				got := wantError(t, err, driver.Timeout, tc.stage)
				for _, part := range []string{"within " + tc.after, "connpool's limit", "ssh.loginTimeoutSeconds"} {
					if !strings.Contains(got.Message, part) {
						t.Errorf("message %q does not say %q", got.Message, part)
					}
				}
			})
		})
	}
}

func newRSA(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(block)
}

// TestAlgorithmsThatAreNotSharedAreNamedWithTheRightAdvice has servers that are older
// than this driver's library, and such that are newer.
func TestAlgorithmsThatAreNotSharedAreNamedWithTheRightAdvice(t *testing.T) {
	hostKey, clientKey := newRSA(t)
	for name, tc := range map[string]struct {
		config []string
		rsa    bool // host key and client key
		reason driver.Reason
		says   []string
	}{
		"group 14 with SHA-1":         {config: []string{"KexAlgorithms diffie-hellman-group14-sha1"}, says: []string{"no secure key exchange, only diffie-hellman-group14-sha1;", "update the server"}},
		"group 1 with SHA-1":          {config: []string{"KexAlgorithms diffie-hellman-group1-sha1"}, says: []string{"update the server"}},
		"CBC":                         {config: []string{"Ciphers aes128-cbc,3des-cbc"}, says: []string{"no secure", "aes128-cbc, 3des-cbc", "update the server"}},
		"MACs with SHA-1":             {config: []string{"Ciphers aes256-ctr", "MACs hmac-sha1,hmac-sha1-etm@openssh.com"}, says: []string{"no secure", "update the server"}},
		"a newer key exchange":        {config: []string{"KexAlgorithms sntrup761x25519-sha512@openssh.com"}, says: []string{"that connpool supports, only sntrup761x25519-sha512@openssh.com;", "allow one of", "curve25519-sha256", "KexAlgorithms"}},
		"a larger group":              {config: []string{"KexAlgorithms diffie-hellman-group18-sha512,diffie-hellman-group14-sha1"}, says: []string{"connpool supports", "KexAlgorithms"}},
		"other MACs":                  {config: []string{"Ciphers aes256-ctr", "MACs umac-128-etm@openssh.com"}, says: []string{"umac-128-etm@openssh.com", "hmac-sha2-256", "MACs of its sshd_config"}},
		"a host key with SHA-1 only":  {rsa: true, config: []string{"HostKeyAlgorithms ssh-rsa"}, says: []string{"SHA-1 only (ssh-rsa)", "update the server"}},
		"SHA-1 signatures of clients": {rsa: true, config: []string{"PubkeyAcceptedAlgorithms ssh-rsa"}, reason: driver.AuthenticationFailed, says: []string{"SHA-1", "ed25519"}},
		"group exchange":              {config: []string{"KexAlgorithms diffie-hellman-group-exchange-sha256"}},
		"group 16":                    {config: []string{"KexAlgorithms diffie-hellman-group16-sha512"}},
		"AES of 192 bits":             {config: []string{"Ciphers aes192-ctr", "MACs hmac-sha2-512-etm@openssh.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			options := openssh.Options{Config: tc.config, Dir: t.TempDir()}
			if tc.rsa {
				options.HostKeys = []crypto.PrivateKey{hostKey}
			}
			server, err := openssh.Start(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			endpoint := endpointOf(server.Addr, server.User, server.KnownHosts, server.PrivateKey)
			if tc.rsa {
				endpoint.Credentials["ssh-privatekey"] = clientKey
				public, _ := ssh.NewPublicKey(&hostKey.PublicKey)
				if err := server.Authorize(public); err != nil {
					t.Fatal(err)
				}
			}
			dialed, err := dialWith(t.Context(), Options{}, endpoint)
			if len(tc.says) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				_ = dialed.Close()
				return
			}
			if err == nil {
				t.Fatal("connected")
			}
			got := driver.AsError(err)
			if want := cmp.Or(tc.reason, driver.ProtocolError); got.Reason != want {
				t.Errorf("reason %s, want %s", got.Reason, want)
			}
			for _, part := range tc.says {
				if !strings.Contains(got.Message, part) {
					t.Errorf("message %q does not say %q", got.Message, part)
				}
			}
			if strings.Contains(got.Message, "kex-strict") {
				t.Errorf("message %q takes an announcement for an algorithm", got.Message)
			}
		})
	}
}

// TestAnRSAKeyIsNotOfferedForSHA1 has a server that announces nothing better.
func TestAnRSAKeyIsNotOfferedForSHA1(t *testing.T) {
	_, clientKey := newRSA(t)
	inEnv(t, func(t *testing.T, w *env) {
		w.endpoint.Credentials["ssh-privatekey"] = clientKey
		config := w.config()
		config.PublicKeyAuthAlgorithms = []string{ssh.KeyAlgoRSA}
		w.server = w.handshake(config, nil)
		_, _, err := w.dial(t)
		got := wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
		if !strings.Contains(got.Message, "with SHA-1 only") || !strings.Contains(got.Message, "was not offered") || got.MayCureSoon {
			t.Errorf("message %q, early attempts: %t", got.Message, got.MayCureSoon)
		}
	})
}

// TestAWrongKeyIsOneWhereTheServerAllowsOneAttempt has a server that ends the connection
// instead of refusing the key. Taken for a fault of the network it would be dialed again
// and again.
func TestAWrongKeyIsOneWhereTheServerAllowsOneAttempt(t *testing.T) {
	_, endpoint := startOpenSSH(t, "MaxAuthTries 1")
	_, wrong := newKey(t)
	endpoint.Credentials = map[string][]byte{"ssh-privatekey": wrong}
	_, err := dialWith(t.Context(), Options{}, endpoint)
	if got := wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication); !strings.Contains(got.Message, "refused the key") {
		t.Errorf("message %q", got.Message)
	}
}

func TestAServerThatSaysWhyItEndsTheConnectionIsQuoted(t *testing.T) {
	err := handshakeError(errors.New(`ssh: handshake failed: ssh: disconnect, reason 11: "closed for\x1b[31m repair"`),
		driver.StageAuthentication, "host:22")
	if err.Reason != driver.Unreachable || !strings.Contains(err.Message, `said "closed for[31m repair"`) {
		t.Errorf("%s: %q", err.Reason, err.Message)
	}
}

func TestAServerOfTheFirstVersionIsToldToUpdate(t *testing.T) {
	inEnv(t, func(t *testing.T, w *env) {
		w.server = func(conn net.Conn) {
			_, _ = io.WriteString(conn, "SSH-1.5-OpenSSH_3.0\r\n")
			conn.(memoryConn).out.Close()
		}
		_, _, err := w.dial(t)
		if got := wantError(t, err, driver.ProtocolError, driver.StageBanner); !strings.Contains(got.Message, "version 1 of SSH") {
			t.Errorf("message %q", got.Message)
		}
	})
}

// TestARefusedCertificateIsSuspectedOfWhatItHolds has certificates that OpenSSH refuses
// without saying why.
func TestARefusedCertificateIsSuspectedOfWhatItHolds(t *testing.T) {
	authority, _ := newKey(t)
	endpoint := certifiedOpenSSH(t, authority, "127.0.0.1")
	for name, tc := range map[string]struct {
		change func(*ssh.Certificate)
		says   string
	}{
		"another principal":          {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"someone", "else"} }, "the principals someone, else, but not " + endpoint.User},
		"no principal":               {func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "no principals"},
		"another source address":     {func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8"} }, "source-address 10.0.0.0/8"},
		"an option of the future":    {func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"moon-phase": "full"} }, "the critical option moon-phase"},
		"nothing that looks strange": {func(c *ssh.Certificate) { c.KeyId = "x" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			signedBy := authority
			if tc.says == "" {
				signedBy, _ = newKey(t)
			}
			changed := endpoint
			changed.Credentials = changedCertificate(t, signedBy, endpoint.User, tc.change)
			_, err := dialWith(t.Context(), Options{}, changed)
			got := wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
			if !strings.Contains(got.Message, tc.says) || tc.says == "" && strings.Contains(got.Message, "The certificate has") {
				t.Errorf("message %q, want %q in it", got.Message, tc.says)
			}
		})
	}
}
