package kube

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/kubestream"
)

func TestACommandWithoutAStatusIsUnknownAndSaysWhy(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx    context.Context
		err    error
		reason driver.Reason
		word   string
	}{
		"its input failed":                      {t.Context(), kubestream.ErrInput, driver.Unreachable, "input broke off"},
		"its input failed, and the caller left": {canceled, kubestream.ErrInput, driver.Unreachable, "input broke off"},
		"its output failed":                     {t.Context(), kubestream.ErrOutput, driver.Unreachable, "reader of the command's output"},
		"the caller left":                       {canceled, context.Canceled, driver.Timeout, "stopped waiting"},
		"the server is silent":                  {t.Context(), kubestream.ErrSilent, driver.Timeout, "no sign of life"},
		"the server sent nonsense":              {t.Context(), kubestream.ErrProtocol, driver.ProtocolError, "unreadable status"},
		"the connection was cut":                {t.Context(), io.ErrUnexpectedEOF, driver.Unreachable, "was lost"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := &execution{conn: &conn{client: &client{config: &config{address: "cluster:6443"}}}}
			err := e.explain(test.ctx, fmt.Errorf("wrapped: %w", test.err))
			wantError(t, err, test.reason, driver.StageRun)
			if driver.OutcomeOf(err) != driver.Unknown || !strings.Contains(err.Message, test.word) ||
				!strings.HasSuffix(err.Message, "it may run on in the pod without its streams") {
				t.Errorf("outcome %s, message %q", driver.OutcomeOf(err), err.Message)
			}
		})
	}
}
