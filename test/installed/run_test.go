//go:build e2e

package installed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// commandLimit bounds any one command, so that one that hangs is named.
	commandLimit = 2 * time.Minute
	// patience bounds how long a state may take to come.
	patience = 90 * time.Second
	space    = "connpool-system"
	service  = "connpool-live"
	theAPI   = "v1alpha1.live.connpool.dev"
)

// result is how a program ended.
type result struct {
	stdout, stderr string
	code           int
}

// runWith runs a program to its end.
func runWith(t *testing.T, stdin string, words ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandLimit) // also for cleanup after a test
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = fixture.root
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
		t.Fatalf("%s: %v, %v\n%s%s", strings.Join(words, " "), err, ctx.Err(), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// run runs a program that must succeed, and returns what it printed.
func run(t *testing.T, words ...string) string {
	t.Helper()
	return runInput(t, "", words...)
}

func runInput(t *testing.T, stdin string, words ...string) string {
	t.Helper()
	got := runWith(t, stdin, words...)
	if got.code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(words, " "), got.code, got.stdout, got.stderr)
	}
	return got.stdout
}

// admin runs kubectl as an administrator.
func admin(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{"kubectl", "--kubeconfig=" + kubeconfig("admin")}, args...)...)
}

// helm runs helm as an administrator.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{"helm", "--kubeconfig=" + kubeconfig("admin"), "--namespace=" + space}, args...)...)
}

// plugin runs the kubectl plugin as the worker.
func plugin(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{"kubectl", "connpool"}, args...)...)
}

// await returns when try returns no error.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("wait until %s: %v\n%s", what, err, diagnose(t))
		}
	}
}

// diagnose says how the operator's pods are, and what they have said last.
func diagnose(t *testing.T) string {
	t.Helper()
	kubectl := []string{"kubectl", "--kubeconfig=" + kubeconfig("admin"), "--namespace=" + space}
	pods := runWith(t, "", append(kubectl, "get", "pods", "-o", "wide")...)
	events := runWith(t, "", append(kubectl, "get", "events", "--field-selector=type=Warning")...)
	logs := runWith(t, "", append(kubectl, "logs", "--selector=app.kubernetes.io/name=connpool", "--prefix", "--tail=15")...)
	return fmt.Sprintf("%s%s%s", pods.stdout+pods.stderr, events.stdout, logs.stdout+logs.stderr)
}

// awaitCommand returns when a command runs through the pool of the host.
func awaitCommand(t *testing.T) {
	t.Helper()
	await(t, "a command runs", func() error {
		if got := runWith(t, "", "kubectl", "connpool", "exec", "host", "--", "echo", "it runs"); got.stdout != "it runs\n" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

// serviceAddress returns the host and port of the first port of a Service.
func serviceAddress(ctx context.Context, namespace, name string) (string, error) {
	found, err := fixture.api.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(found.Spec.ClusterIP, strconv.Itoa(int(found.Spec.Ports[0].Port))), nil
}

// direct returns the configuration of a client of the operator's Service that trusts the
// operator's authority.
func direct(t *testing.T) *rest.Config {
	t.Helper()
	address, err := serviceAddress(t.Context(), space, service)
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := fixture.api.CoreV1().Secrets(space).Get(t.Context(), service+"-certs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{
		Host: "https://" + address, BearerToken: fixture.worker.BearerToken, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificates.Data["ca.crt"], ServerName: service + "." + space + ".svc"},
	}
}
