package atmostonce

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// WebSocket makes a client that uses client-go's executor.
func (p Pool) WebSocket() (Client, error) { return p.streaming("WebSocket", p.webSocket) }

// SPDY makes a client that uses client-go's older executor.
func (p Pool) SPDY() (Client, error) { return p.streaming("SPDY", p.spdy) }

// Fallback makes a client that does as kubectl: it uses WebSocket, and then SPDY if the
// upgrade failed.
func (p Pool) Fallback() (Client, error) {
	return p.streaming("fallback", func(address *url.URL) (remotecommand.Executor, error) {
		first, err := p.webSocket(address)
		if err != nil {
			return nil, err
		}
		second, err := p.spdy(address)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewFallbackExecutor(first, second, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})
	})
}

func (p Pool) webSocket(address *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewWebSocketExecutor(p.Config, http.MethodGet, address.String())
}

func (p Pool) spdy(address *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewSPDYExecutor(p.Config, http.MethodPost, address)
}

func (p Pool) streaming(name string, executor func(*url.URL) (remotecommand.Executor, error)) (Client, error) {
	return Client{name, func(ctx context.Context, shell string) Report {
		address, err := p.url(p.query(shell))
		if err != nil {
			return notStarted(err)
		}
		e, err := executor(address)
		if err != nil {
			return notStarted(err)
		}
		var output buffer
		err = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &output})
		report := streamReport(err)
		report.Output = output.bytes()
		return report
	}, func() {}}, nil
}

func (p Pool) query(shell string) url.Values {
	query := url.Values{"shell": {shell}, "stdout": {"true"}}
	for name, value := range map[string]string{"container": p.Container, "pod": p.Pod} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// streamReport reads the outcome from an executor's error. Of the status, client-go
// passes on the message only.
func streamReport(err error) Report {
	if err == nil {
		return Report{Outcome: live.OutcomeCompleted}
	}
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); ok {
		return Report{Outcome: live.OutcomeCompleted, ExitCode: exit.Code}
	}
	_, refused := errors.AsType[*apierrors.StatusError](err)
	if refused || isDial(err) || httpstream.IsUpgradeFailure(err) || strings.HasPrefix(err.Error(), "the command was not started") ||
		saysNotSent(err.Error()) {
		return notStarted(err)
	}
	return unknown(err)
}

// saysNotSent reads the errors of SPDY, which have no type: that of a refused upgrade, and that
// of a connection that could not be made.
func saysNotSent(message string) bool {
	return strings.HasPrefix(message, "unable to upgrade connection: ") ||
		strings.HasPrefix(message, "error sending request: ") && strings.Contains(message, ": dial tcp")
}

// buffer can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.data.Bytes())
}
