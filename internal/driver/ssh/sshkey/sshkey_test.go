package sshkey

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"
)

const passphrase = "CANARY"

// run runs a tool in the directory and returns what it prints.
func run(t *testing.T, dir, tool string, arguments ...string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), tool, arguments...)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", tool, arguments, err)
	}
	return out
}

// keygen returns a key that the real ssh-keygen made.
func keygen(arguments ...string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		dir := t.TempDir()
		run(t, dir, "ssh-keygen", append(arguments, "-q", "-f", "key")...)
		return read(t, dir, "key")
	}
}

// openssl returns what openssl prints, given the keys "ed" and "rsa" in PKCS #8.
func openssl(arguments ...string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		dir := t.TempDir()
		run(t, dir, "openssl", "genpkey", "-algorithm", "ed25519", "-out", "ed")
		run(t, dir, "openssl", "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa")
		return run(t, dir, "openssl", arguments...)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// changed returns an ed25519 key after a change.
func changed(change func(string) string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		return []byte(change(string(keygen("-t", "ed25519", "-N", "")(t))))
	}
}

func replaced(part, by string) func(*testing.T) []byte {
	return changed(func(key string) string { return strings.ReplaceAll(key, part, by) })
}

func inUTF16(key string) string {
	text := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(key)) {
		text = append(text, byte(unit), byte(unit>>8))
	}
	return string(text)
}

// TestEveryFormOfAKeyIsReadOrNamed has the forms that ssh-keygen and openssl write, and
// what happens to keys on their way into a Secret.
func TestEveryFormOfAKeyIsReadOrNamed(t *testing.T) {
	sealed := []string{"-t", "ed25519", "-N", passphrase, "-a", "1"}
	with := func(arguments ...string) func(*testing.T) []byte { return keygen(append(arguments, sealed...)...) }
	for name, tc := range map[string]struct {
		make func(*testing.T) []byte
		says []string // empty: the key is read
	}{
		"ed25519":                    {make: keygen("-t", "ed25519", "-N", "")},
		"RSA":                        {make: keygen("-t", "rsa", "-b", "2048", "-N", "")},
		"ECDSA of 256 bits":          {make: keygen("-t", "ecdsa", "-b", "256", "-N", "")},
		"ECDSA of 521 bits":          {make: keygen("-t", "ecdsa", "-b", "521", "-N", "")},
		"PEM":                        {make: keygen("-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM")},
		"PEM, encrypted":             {make: keygen("-t", "rsa", "-b", "2048", "-N", passphrase, "-m", "PEM")},
		"PEM of ECDSA, encrypted":    {make: keygen("-t", "ecdsa", "-N", passphrase, "-m", "PEM")},
		"PKCS #8":                    {make: keygen("-t", "rsa", "-b", "2048", "-N", "", "-m", "PKCS8")},
		"PKCS #8 of ed25519":         {make: openssl("pkey", "-in", "ed")},
		"encrypted, aes256-ctr":      {make: with()},
		"encrypted, aes256-cbc":      {make: with("-Z", "aes256-cbc")},
		"encrypted, 64 rounds":       {make: keygen("-t", "ed25519", "-N", passphrase, "-a", "64")},
		"a curve's parameters first": {make: openssl("ecparam", "-name", "prime256v1", "-genkey")},
		"a certificate first":        {make: openssl("req", "-x509", "-key", "rsa", "-subj", "/CN=x", "-days", "1", "-keyout", "-", "-nodes")},
		"Windows line ends":          {make: replaced("\n", "\r\n")},
		"old Macintosh line ends":    {make: replaced("\n", "\r")},
		"no last line end":           {make: changed(strings.TrimSpace)},
		"blanks at line ends":        {make: replaced("\n", " \t\n")},
		"indented":                   {make: changed(func(key string) string { return "  " + strings.ReplaceAll(key, "\n", "\n  ") })},
		"a leading blank":            {make: changed(func(key string) string { return " " + key })},
		"a byte order mark":          {make: changed(func(key string) string { return "\ufeff" + key })},
		"a comment first":            {make: changed(func(key string) string { return "# deploy\n" + key })},
		"the public key behind":      {make: changed(func(key string) string { return key + "ssh-ed25519 AAAA deploy\n" })},
		"two keys":                   {make: changed(func(key string) string { return key + key })},

		"encrypted, aes256-gcm":       {make: with("-Z", "aes256-gcm@openssh.com"), says: []string{"aes256-gcm@openssh.com", "ssh-keygen -p -Z aes256-ctr"}},
		"encrypted, chacha20":         {make: with("-Z", "chacha20-poly1305@openssh.com"), says: []string{"chacha20-poly1305@openssh.com", "ssh-keygen -p"}},
		"encrypted, aes128-cbc":       {make: with("-Z", "aes128-cbc"), says: []string{"aes128-cbc", "ssh-keygen -p"}},
		"encrypted, 3des-cbc":         {make: with("-Z", "3des-cbc"), says: []string{"3des-cbc", "ssh-keygen -p"}},
		"encrypted, 65 rounds":        {make: keygen("-t", "ed25519", "-N", passphrase, "-a", "65"), says: []string{"65 rounds", "more than 64", "ssh-keygen -p -a 16"}},
		"PKCS #8, encrypted":          {make: keygen("-t", "rsa", "-b", "2048", "-N", passphrase, "-m", "PKCS8"), says: []string{"PKCS #8", "openssl pkcs8"}},
		"PKCS #8 of ed25519, sealed":  {make: openssl("pkcs8", "-topk8", "-in", "ed", "-passout", "pass:"+passphrase), says: []string{"PKCS #8", "openssl pkcs8"}},
		"PKCS #8 of the old kind":     {make: openssl("pkcs8", "-topk8", "-in", "rsa", "-v1", "PBE-SHA1-3DES", "-passout", "pass:"+passphrase), says: []string{"PKCS #8", "openssl pkcs8"}},
		"a security key":              {make: securityKey, says: []string{"security key", "FIDO", "ssh-keygen -t ed25519"}},
		"a certificate alone":         {make: certificateAlone, says: []string{"is a certificate"}},
		"one line":                    {make: replaced("\n", " "), says: []string{"all in one line", "--from-file"}},
		"line ends spelled out":       {make: replaced("\n", `\n`), says: []string{`\n`, "--from-file"}},
		"base64, twice":               {make: changed(func(key string) string { return base64.StdEncoding.EncodeToString([]byte(key)) }), says: []string{"base64 twice"}},
		"base64 without frame":        {make: changed(withoutFrame), says: []string{"lacks its BEGIN"}},
		"UTF-16":                      {make: changed(inUTF16), says: []string{"UTF-16", "iconv"}},
		"typographic dashes":          {make: replaced("--", "—"), says: []string{"hyphens"}},
		"cut off":                     {make: changed(func(key string) string { return key[:len(key)/2] }), says: []string{"cut off", "BEGIN", "END"}},
		"the public key":              {make: publicKey, says: []string{"public key", ".pub"}},
		"PuTTY's":                     {make: replaced("-----BEGIN", "PuTTY-User-Key-File-3: ssh-ed25519\n"), says: []string{"PuTTY", "puttygen"}},
		"ssh.com's":                   {make: replaced("-----BEGIN OPENSSH PRIVATE", "---- BEGIN SSH2 ENCRYPTED PRIVATE"), says: []string{"ssh.com", "ssh-keygen -i"}},
		"an RSA key of 1024 bits":     {make: keygen("-t", "rsa", "-b", "1024", "-N", ""), says: []string{"1024 bits"}},
		"an RSA key of over 8192":     {make: longRSA("RSA PRIVATE KEY"), says: []string{"8,192 bits", "ssh-keygen -t ed25519"}},
		"the same in PKCS #8":         {make: longRSA("PRIVATE KEY"), says: []string{"8,192 bits"}},
		"the same in OpenSSH's":       {make: longRSA("OPENSSH PRIVATE KEY"), says: []string{"8,192 bits"}},
		"the same, encrypted in PEM":  {make: longRSA("sealed"), says: []string{"8,192 bits"}},
		"something else in its place": {make: func(*testing.T) []byte { return []byte(passphrase) }, says: []string{"not a private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePrivate(tc.make(t), passphrase)
			if len(tc.says) == 0 || err == nil {
				if err != nil || len(tc.says) > 0 {
					t.Errorf("error %v, want %q", err, tc.says)
				}
				return
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), passphrase) {
				t.Errorf("%q gives the key away", err)
			}
		})
	}
}

func publicKey(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "ssh-keygen", "-t", "ed25519", "-N", "", "-q", "-f", "key")
	return read(t, dir, "key.pub")
}

func certificateAlone(t *testing.T) []byte {
	t.Helper()
	return openssl("req", "-x509", "-key", "rsa", "-subj", "/CN=x", "-days", "1")(t)
}

// withoutFrame returns the key without its first and last line.
func withoutFrame(key string) string {
	lines := strings.Split(strings.TrimSpace(key), "\n")
	return strings.Join(lines[1:len(lines)-1], "\n")
}

// securityKey is what ssh-keygen -t ed25519-sk writes. That needs the device.
func securityKey(*testing.T) []byte {
	public := ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, strings.Repeat("k", 32), "ssh:"})
	inside := ssh.Marshal(container{Cipher: "none", KDF: "none", Keys: 1, PublicKey: public, Rest: ssh.Marshal(struct{ Private string }{"handle"})})
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: append([]byte("openssh-key-v1\x00"), inside...)})
}

// makeLong returns an RSA key of 8,200 bits. ssh-keygen would need minutes to find one, so
// it has many small factors.
var makeLong = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	return rsa.GenerateMultiPrimeKey(rand.Reader, 16, 8200) //nolint:staticcheck // to be fast
})

// longRSA returns the key of makeLong in a format.
func longRSA(form string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		key, err := makeLong()
		if err != nil {
			t.Fatal(err)
		}
		switch form {
		case "OPENSSH PRIVATE KEY":
			block, err := ssh.MarshalPrivateKey(key, "")
			if err != nil {
				t.Fatal(err)
			}
			return pem.EncodeToMemory(block)
		case "PRIVATE KEY":
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			return pem.EncodeToMemory(&pem.Block{Type: form, Bytes: der})
		case "sealed":
			block, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte(passphrase), x509.PEMCipherAES256) //nolint:staticcheck // an old format
			if err != nil {
				t.Fatal(err)
			}
			return pem.EncodeToMemory(block)
		}
		return pem.EncodeToMemory(&pem.Block{Type: form, Bytes: x509.MarshalPKCS1PrivateKey(key)})
	}
}

// TestAKeyOfManyRoundsCostsNothing would take 15 s if the key were decrypted.
func TestAKeyOfManyRoundsCostsNothing(t *testing.T) {
	text := keygen("-t", "ed25519", "-N", passphrase, "-a", "1")(t)
	block, _ := pem.Decode(text)
	rounds := bytes.Clone(block.Bytes)
	at := bytes.Index(rounds, []byte{0, 0, 0, 1, 0, 0, 0, 1})
	if at < 0 {
		t.Fatal("the rounds are not where they should be")
	}
	copy(rounds[at:], []byte{0, 0, 7, 255})
	begin := time.Now()
	_, err := ParsePrivate(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: rounds}), passphrase)
	if err == nil || !strings.Contains(err.Error(), "2047 rounds") {
		t.Errorf("error %v, want the rounds", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestAHostMayBeCalledLikeAKey(t *testing.T) {
	for word, isType := range map[string]bool{
		"ssh-ed25519": true, "ecdsa-sha2-nistp256": true, "sk-ssh-ed25519@openssh.com": true, "ssh-rsa-cert-v01@openssh.com": true,
		"ssh-gw": false, "ssh-gw.example.com": false, "ecdsa-sha2-box": false, "sk-ssh-host": false, "web-1": false,
	} {
		if IsType(word) != isType {
			t.Errorf("IsType(%q) = %t", word, !isType)
		}
	}
}
