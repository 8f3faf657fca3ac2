package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/connpool/connpool/api/v1alpha1"
)

// recorder keeps what the operator logs.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// leakedSecrets looks for the canary, and for parts of private keys, in everything
// that came out of the operator during all tests. It returns the exit code of the
// test binary: code, or 1 if it has found something.
func leakedSecrets(code int) int {
	sources := map[string]string{"the log": env.output.String()}
	for name, list := range map[string]client.ObjectList{
		"targets": &v1alpha1.ConnectionTargetList{},
		"pools":   &v1alpha1.ConnectionPoolList{},
		"events":  &eventsv1.EventList{},
	} {
		if err := env.client.List(context.Background(), list); err != nil {
			fmt.Fprintln(os.Stderr, "list", name, err)
			return 1
		}
		raw, err := json.Marshal(list)
		if err != nil {
			fmt.Fprintln(os.Stderr, "encode", name, err)
			return 1
		}
		sources[name] = string(raw)
	}
	families, err := metrics.Registry.Gather()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gather metrics:", err)
		return 1
	}
	sources["metrics"] = fmt.Sprint(families)
	for name, text := range sources {
		if text == "" {
			fmt.Fprintf(os.Stderr, "nothing came out of %s, so nothing was checked\n", name)
			code = 1
		}
		for _, secret := range []string{canary, "PRIVATE KEY"} {
			if strings.Contains(text, secret) {
				fmt.Fprintf(os.Stderr, "%s contains a secret (%s)\n", name, secret)
				code = 1
			}
		}
	}
	return code
}
