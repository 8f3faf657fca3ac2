package crd

import (
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Valid objects. Each case changes one of them.
const (
	sshTarget = `
apiVersion: connpool.dev/v1alpha1
kind: ConnectionTarget
metadata: {name: web-1, namespace: default, labels: {app: web}}
spec:
  ssh:
    host: web-1.example.com
    user: deploy
    credentialsRef: {name: web-ssh}
    hostKeys: {knownHosts: ["` + ed25519Key + `"]}
`
	dockerTarget = `
apiVersion: connpool.dev/v1alpha1
kind: ConnectionTarget
metadata: {name: build-1, namespace: default}
spec:
  docker:
    endpoint: tcp://build-1.example.com:2376
    tlsRef: {name: build-tls}
`
	kubernetesTarget = `
apiVersion: connpool.dev/v1alpha1
kind: ConnectionTarget
metadata: {name: prod, namespace: default}
spec:
  kubernetes:
    kubeconfigRef: {name: prod-kubeconfig, key: kubeconfig}
`
	pool = `
apiVersion: connpool.dev/v1alpha1
kind: ConnectionPool
metadata: {name: web, namespace: default}
spec:
  targetRef: {name: web-1}
`
	scheduledPool = `
apiVersion: connpool.dev/v1alpha1
kind: ConnectionPool
metadata: {name: web, namespace: default}
spec:
  targetSelector: {matchLabels: {app: web}}
  warming:
    schedules:
    - {name: office, start: "0 8 * * 1-5", end: "0 18 * * 1-5", timeZone: Europe/Zurich, minWarm: 3}
`
)

const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICNqhBEUMfCLTYhRJcDdXd3WSzXhxQLrvK9gQR4Rc1pC"
	// canary stands for the secret part of a private key, which no message may repeat.
	canary     = "CANARYb64CANARYb64"
	privateKey = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + canary + "\n-----END OPENSSH PRIVATE KEY-----\n"
)

// rsaKey returns a public key of the given size. Its modulus is not a product of two
// known primes, which no reader of public keys checks.
func rsaKey(bits int, exponent int64) string {
	modulus := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	modulus.Sub(modulus, big.NewInt(1))
	blob := ssh.Marshal(struct {
		Name string
		E, N *big.Int
	}{"ssh-rsa", big.NewInt(exponent), modulus})
	return "ssh-rsa " + base64.StdEncoding.EncodeToString(blob)
}

func dsaKey() string {
	return "ssh-dss " + base64.StdEncoding.EncodeToString(ssh.Marshal(struct{ Name, P string }{"ssh-dss", "\x01"}))
}

// object parses a manifest and applies changes. Each sets the value at a path of
// names and indices with dots between them, or removes it if the value is nil.
func object(t *testing.T, manifest string, changes change) *unstructured.Unstructured {
	t.Helper()
	content := map[string]any{}
	if err := yaml.Unmarshal([]byte(manifest), &content); err != nil {
		t.Fatalf("parse manifest: %v", err)
	}
	for path, value := range changes {
		set(t, content, strings.Split(path, "."), value)
	}
	changed, err := yaml.Marshal(content)
	if err != nil {
		t.Fatalf("encode object: %v", err)
	}
	return parse(t, changed)
}

// parse converts a manifest to JSON and parses that, so that values have the types
// that the API server sees.
func parse(t *testing.T, manifest []byte) *unstructured.Unstructured {
	t.Helper()
	content, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		t.Fatalf("parse manifest: %v", err)
	}
	result := &unstructured.Unstructured{}
	if err := result.UnmarshalJSON(content); err != nil {
		t.Fatalf("parse manifest: %v", err)
	}
	return result
}

// change maps paths to values.
type change map[string]any

func set(t *testing.T, in any, path []string, value any) {
	t.Helper()
	switch parent := in.(type) {
	case []any:
		index, err := strconv.Atoi(path[0])
		if err != nil || index >= len(parent) {
			t.Fatalf("no item %s", path[0])
		}
		if len(path) == 1 {
			parent[index] = value
			return
		}
		set(t, parent[index], path[1:], value)
	case map[string]any:
		switch {
		case len(path) == 1 && value == nil:
			delete(parent, path[0])
		case len(path) == 1:
			parent[path[0]] = value
		default:
			if parent[path[0]] == nil {
				parent[path[0]] = map[string]any{}
			}
			set(t, parent[path[0]], path[1:], value)
		}
	default:
		t.Fatalf("no object or list at %s", path[0])
	}
}
