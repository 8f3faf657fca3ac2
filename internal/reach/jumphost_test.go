package reach

import (
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach/refusals"
)

func TestFailuresOfAJumpHostsPoolAreSaidInAUsersWords(t *testing.T) {
	wrongKey := &driver.Error{Reason: driver.AuthenticationFailed, Message: "permission denied"}
	tests := map[string]struct {
		err  error
		want driver.Reason
	}{
		"being closed":                 {connpool.ErrClosed, driver.Unreachable},
		"too many streams":             {connpool.ErrQueueFull, driver.SessionLimit},
		"still dialing":                {&connpool.DownError{Err: connpool.ErrDialPending}, driver.Timeout},
		"down for a reason of its own": {&connpool.DownError{Err: wrongKey}, driver.AuthenticationFailed},
		"down by a shared error":       {&connpool.DownError{Err: &refusals.SharedError{Err: wrongKey}}, driver.AuthenticationFailed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := acquireFailure(tc.err)
			if got.Reason != tc.want || strings.Contains(got.Message, "connpool:") {
				t.Errorf("%s: %q, want %s", got.Reason, got.Message, tc.want)
			}
		})
	}
}
