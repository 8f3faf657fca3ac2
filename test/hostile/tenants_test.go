package hostile

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/api/v1alpha1"
)

// byTenants are the attacks by those who may write Secrets, targets and pools.
func byTenants() []attack {
	return []attack{
		{"a kubeconfig full of aliases", "75 KB", aliasesInAKubeconfig},
		{"keys that are slow to decrypt", "8 targets, 2 pools each, 2,048 rounds", slowKeys},
		{"a thousand targets that do not exist", "1,000 targets, refused", badTargets},
	}
}

// bomb is YAML that is much larger once its aliases are replaced.
func bomb(bytes, aliases int) []byte {
	return fmt.Appendf(nil, "x: &a %q\ny: [%s]\n", strings.Repeat("A", bytes), strings.TrimSuffix(strings.Repeat("*a,", aliases), ","))
}

func aliasesInAKubeconfig(t *testing.T, attacker tenant) {
	attacker.secret(t, "bomb", map[string][]byte{"kubeconfig": bomb(60_000, 5_000)})
	attacker.create(t, attacker.clusterTarget("bomb"), attacker.poolOf("bomb", "bomb"))
	attacker.condition(t, "bomb", 30*time.Second, func(c metav1.Condition) bool {
		return c.Reason == v1alpha1.ReasonCredentialsInvalid
	})
}

// slowKeys also times a target of the neighbor that is made meanwhile.
func slowKeys(t *testing.T, attacker tenant) {
	attacker.secret(t, "login", map[string][]byte{"ssh-privatekey": slowKey(t, 2048), "passphrase": []byte("passphrase")})
	known := "127.0.0.1 " + string(ssh.MarshalAuthorizedKey(newKey(t)))
	for i := range 8 {
		target := attacker.sshTarget(fmt.Sprint("slow-", i), "127.0.0.1:22", known, "me")
		attacker.create(t, target, attacker.poolOf(fmt.Sprint("one-", i), target.Name), attacker.poolOf(fmt.Sprint("two-", i), target.Name))
	}
	server := startSSHD(t)
	innocent := newTenant(t, "innocent-of-keys")
	innocent.secret(t, "login", login(server.PrivateKey))
	begin := time.Now()
	innocent.create(t, innocent.sshTarget("fresh", server.Addr, server.KnownHosts, server.User), innocent.poolOf("fresh", "fresh"))
	innocent.ready(t, "fresh", 10*time.Second)
	t.Logf("a new target of another namespace was Ready after %s", time.Since(begin).Round(time.Millisecond))
}

func newKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	key, err := ssh.NewPublicKey(newPrivateKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// slowKey returns a private key that says it was encrypted with so many rounds, which
// is all that it takes to keep a reader busy.
func slowKey(t *testing.T, rounds uint32) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(newPrivateKey(t), "", []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	// A salt of 16 bytes stands between the name of the function and the rounds.
	at := strings.LastIndex(string(block.Bytes[:100]), "bcrypt") + len("bcrypt") + 4 + 4 + 16
	binary.BigEndian.PutUint32(block.Bytes[at:], rounds)
	return pem.EncodeToMemory(block)
}

func newPrivateKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func plainKey(t *testing.T) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(newPrivateKey(t), "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func login(key []byte) map[string][]byte { return map[string][]byte{"ssh-privatekey": key} }

func badTargets(t *testing.T, attacker tenant) {
	attacker.secret(t, "login", login(plainKey(t)))
	known := "[127.0.0.1]:1 " + string(ssh.MarshalAuthorizedKey(newKey(t)))
	all := attacker.poolOf("all", "")
	all.Spec.TargetRef, all.Spec.TargetSelector = nil, &metav1.LabelSelector{MatchLabels: map[string]string{"bad": "yes"}}
	attacker.create(t, all)
	for i := range 1000 {
		target := attacker.sshTarget(fmt.Sprint("bad-", i), "127.0.0.1:1", known, "me")
		target.Labels = all.Spec.TargetSelector.MatchLabels
		attacker.create(t, target)
	}
	attacker.condition(t, "bad-999", 2*time.Minute, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionFalse
	})
}
