package ssh

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/openssh"
)

// proxyVariable makes of this test's program the ProxyCommand of an ssh, to the address
// that is its value. So ssh can know the server by any name and port.
const proxyVariable = "CONNPOOL_TEST_PROXY_TO"

func init() { //nolint:gochecknoinits // the program is not to run tests then
	address := os.Getenv(proxyVariable)
	if address == "" {
		return
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		os.Exit(0)
	}()
	_, _ = io.Copy(os.Stdout, conn)
	os.Exit(0)
}

// pinned is a server that shows one host key, in a certificate if it has one.
type pinned struct {
	*openssh.Server

	key       string            // its host key
	authority string            // that signed its certificate
	other     string            // another ed25519 key
	words     *strings.Replacer // of the table's lines
}

func startPinned(t *testing.T, certified bool) *pinned {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	authority, _ := newKey(t)
	other, _ := newKey(t)
	p := &pinned{key: line(host.PublicKey()), authority: line(authority.PublicKey()), other: line(other.PublicKey())}
	var config []string
	if certified {
		cert := hostCertificate(t, authority, func(c *ssh.Certificate) { c.Key = host.PublicKey() })
		path := filepath.Join(t.TempDir(), "host-cert.pub")
		if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
			t.Fatal(err)
		}
		config = append(config, "HostCertificate "+path)
	}
	p.Server, err = openssh.Start(t.Context(), openssh.Options{
		HostKeys: []crypto.PrivateKey{private}, Config: config, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	if err := os.WriteFile(filepath.Join(p.Dir, "identity"), p.PrivateKey, 0o600); err != nil {
		t.Fatal(err)
	}
	weak := keygenPublic(t, "-t", "rsa", "-b", "1024")
	p.words = strings.NewReplacer("KEY", p.key, "CA", p.authority, "OTHER", p.other, "WEAK", weak, "DSA", dsaPublic,
		"BLOB", strings.Fields(p.key)[1])
	return p
}

// dsaPublic is a DSA key; today's ssh-keygen may not make one.
const dsaPublic = "ssh-dss AAAAB3NzaC1kc3MAAACBANRN1kdvUTJNfQbQXgK8C8DkYTpIYQe6pZD9oTYvZ8IkLXy4oZcRVvYVrwXrE4mF0PPBr4MqkAeQq1wwlFpQLlEn" +
	"3mGKTV8zvcy2JcMsPWWDBGhQYhVlnfRCJnJxtS0vJEmVvm5EAWnn0j8cIgoHBwdJbhlqRmtRWSW5HZVTAAAAFQD3u2a7m0tHvZGbL9jqvUwKfYk5NwAA"

// keygenPublic makes a key and returns its public half.
func keygenPublic(t *testing.T, arguments ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", append(arguments, "-q", "-N", "", "-C", "", "-f", path)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// theirs is ssh's verdict about the server under the name.
func (p *pinned) theirs(t *testing.T, host, port, knownHosts string) (accepted bool, said string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte(knownHosts), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "ssh", "-F", "none", "-p", port, "-l", p.User, "-i", filepath.Join(p.Dir, "identity"),
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+path,
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "UpdateHostKeys=no", "-o", "IdentitiesOnly=yes", "-o", "ProxyCommand="+os.Args[0], "-s", host, "sftp") // no shell, whose start may be slow
	command.Env = append(os.Environ(), proxyVariable+"="+p.Addr)
	out, err := command.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Host key verification failed") {
		t.Fatalf("ssh: %v: %s", err, out)
	}
	return err == nil, string(out)
}

// ours is this driver's verdict.
func (p *pinned) ours(t *testing.T, host, port, knownHosts string) (bool, error) {
	t.Helper()
	endpoint := endpointOf(net.JoinHostPort(host, port), p.User, knownHosts, p.PrivateKey)
	endpoint.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, p.Addr)
	}
	conn, err := dialWith(t.Context(), Options{}, endpoint)
	if err == nil {
		return true, conn.Close()
	}
	switch driver.AsError(err).Reason {
	case driver.HostKeysInvalid, driver.HostKeyMismatch, driver.CertificateInvalid:
	default:
		t.Fatalf("dial: %v", err)
	}
	return false, err
}

// TestKnownHostsMeanWhatTheyMeanToSSH compares with the real ssh, line by line.
func TestKnownHostsMeanWhatTheyMeanToSSH(t *testing.T) {
	plain, certified := startPinned(t, false), startPinned(t, true)
	for name, tc := range map[string]struct {
		lines    string // with KEY, CA, OTHER, WEAK, DSA and BLOB for keys
		host     string // web-1 if empty
		port     string // 22 if empty
		cert     bool   // the server has a certificate for web-1
		accepted bool
	}{
		"a good line":                                 {lines: "web-1 KEY", accepted: true},
		"a word beside a good line":                   {lines: "oops\nweb-1 KEY", accepted: true},
		"a merge conflict":                            {lines: "<<<<<<< HEAD\nweb-1 KEY\n=======\nweb-2 OTHER\n>>>>>>> theirs", accepted: true},
		"a file that is cut off":                      {lines: "web-1 KEY\nweb-1", accepted: true},
		"a key that is cut off":                       {lines: "web-1 KEY\nweb-1 ssh-ed25519", accepted: true},
		"a key in no base64":                          {lines: "web-1 ssh-ed25519 AAAA!!\nweb-1 KEY", accepted: true},
		"a marker of the future":                      {lines: "@future-marker web-1 OTHER\nweb-1 KEY", accepted: true},
		"two markers":                                 {lines: "@cert-authority @revoked web-1 KEY\nweb-1 KEY", accepted: true},
		"a host that begins like a key":               {lines: "ssh-gw.example.com OTHER\nweb-1 KEY", accepted: true},
		"another that begins like a key":              {lines: "ecdsa-sha2-box,10.0.0.1 OTHER\nweb-1 KEY", accepted: true},
		"this host begins like a key":                 {lines: "ssh-gw KEY", host: "ssh-gw", accepted: true},
		"this host is called like a type of key":      {lines: "ssh-ed25519 KEY", host: "ssh-ed25519", accepted: true},
		"a DSA key beside a good one":                 {lines: "web-1 DSA\nweb-1 KEY", accepted: true},
		"a small RSA key beside a good one":           {lines: "web-1 WEAK\nweb-1 KEY", accepted: true},
		"a small RSA authority beside a good key":     {lines: "@cert-authority * WEAK\nweb-1 KEY", accepted: true},
		"a DSA authority beside a good key":           {lines: "@cert-authority * DSA\nweb-1 KEY", accepted: true},
		"an unknown type of key beside a good one":    {lines: "web-1 ssh-future AAAA\nweb-1 KEY", accepted: true},
		"a key of SSH 1":                              {lines: "web-1 2048 65537 1234\nweb-1 KEY", accepted: true},
		"a type that the key is not of":               {lines: "web-1 ssh-rsa BLOB", accepted: false},
		"Windows line ends":                           {lines: "web-2 OTHER\r\nweb-1 KEY\r\n", accepted: true},
		"tabs":                                        {lines: "\tweb-1\tKEY", accepted: true},
		"only another key":                            {lines: "web-1 OTHER", accepted: false},
		"another key beside it":                       {lines: "web-1 OTHER\nweb-1 KEY", accepted: true},
		"only other hosts":                            {lines: "web-2 KEY", accepted: false},
		"capital letters":                             {lines: "WEB-1 KEY", accepted: true},
		"a revoked key":                               {lines: "web-1 KEY\n@revoked * KEY", accepted: false},
		"a revoked key first":                         {lines: "@revoked web-1 KEY\nweb-* KEY", accepted: false},
		"another revoked key":                         {lines: "@revoked * OTHER\nweb-1 KEY", accepted: true},
		"a revoked DSA key":                           {lines: "@revoked * DSA\nweb-1 KEY", accepted: true},
		"a revoked small RSA key":                     {lines: "@revoked * WEAK\nweb-1 KEY", accepted: true},
		"revoked for another host":                    {lines: "@revoked web-2 KEY\nweb-1 KEY", accepted: true},
		"a revoked line without its key":              {lines: "@revoked web-1\nweb-1 KEY", accepted: true},
		"another port, named":                         {lines: "[web-1]:2222 KEY", port: "2222", accepted: true},
		"another port, host alone":                    {lines: "web-1 KEY", port: "2222", accepted: true},
		"another port, a pattern alone":               {lines: "web* KEY", port: "2222", accepted: true},
		"another port, hashed host alone":             {lines: knownhosts.HashHostname("web-1") + " KEY", port: "2222", accepted: true},
		"another port, a pattern with port":           {lines: "[*]:2222 KEY", port: "2222", accepted: true},
		"another port, named with another key":        {lines: "[web-1]:2222 OTHER\nweb-1 KEY", port: "2222", accepted: false},
		"another port, named with a weak key":         {lines: "[web-1]:2222 WEAK\nweb-1 KEY", port: "2222", accepted: false},
		"another port, named with a key cut off":      {lines: "[web-1]:2222 ssh-ed25519\nweb-1 KEY", port: "2222", accepted: true},
		"another port, the line of a third":           {lines: "[web-1]:2223 KEY", port: "2222", accepted: false},
		"another port, host alone with another key":   {lines: "[web-1]:2222 KEY\nweb-1 OTHER", port: "2222", accepted: true},
		"another port, revoked with it":               {lines: "@revoked [web-1]:2222 KEY\nweb-1 KEY", port: "2222", accepted: false},
		"another port, revoked without it":            {lines: "@revoked web-1 KEY\nweb-1 KEY", port: "2222", accepted: false},
		"another port, an exception to a pattern":     {lines: "web-*,!web-1 KEY", port: "2222", accepted: false},
		"port 22 is not looked up by another":         {lines: "[web-1]:2222 KEY", accepted: false},
		"an authority":                                {lines: "@cert-authority web-* CA", cert: true, accepted: true},
		"another authority":                           {lines: "@cert-authority web-* OTHER", cert: true, accepted: false},
		"an authority on another port":                {lines: "@cert-authority [web-1]:2222 CA", port: "2222", cert: true, accepted: true},
		"an authority alone on another port":          {lines: "@cert-authority web-1 CA", port: "2222", cert: true, accepted: true},
		"an authority beside a key of the port":       {lines: "@cert-authority web-1 CA\n[web-1]:2222 OTHER", port: "2222", cert: true, accepted: true},
		"a revoked authority":                         {lines: "@cert-authority web-1 CA\n@revoked * CA", cert: true, accepted: false},
		"an authority and a revoked key":              {lines: "@cert-authority web-1 CA\n@revoked * KEY", cert: true, accepted: false},
		"the key in a certificate that is not pinned": {lines: "@cert-authority web-1 OTHER\nweb-1 KEY", cert: true, accepted: true},
		"the key in a certificate for another host":   {lines: "@cert-authority db-1 CA\ndb-1 KEY", host: "db-1", cert: true, accepted: true},
		"a certificate for another host":              {lines: "@cert-authority db-1 CA", host: "db-1", cert: true, accepted: false},
		"the key in a certificate, revoked authority": {lines: "@cert-authority web-1 OTHER\nweb-1 KEY\n@revoked * CA", cert: true, accepted: false},
		"an authority's own key is no host's":         {lines: "@cert-authority web-1 KEY", accepted: false},
	} {
		t.Run(name, func(t *testing.T) {
			server, host, port := plain, tc.host, tc.port
			if tc.cert {
				server = certified
			}
			if host == "" {
				host = "web-1"
			}
			if port == "" {
				port = "22"
			}
			text := server.words.Replace(tc.lines) + "\n"
			theirs, said := server.theirs(t, host, port, text)
			ours, err := server.ours(t, host, port, text)
			if ours != tc.accepted || theirs != tc.accepted {
				t.Errorf("accepted by this driver: %t (%v), by ssh: %t (%s), want %t", ours, err, theirs, said, tc.accepted)
			}
		})
	}
}
