package dialerr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

var hints = Hints{Address: "the address", Name: "its spelling", Port: "the port", Server: "the server"}

func operation(network string, err error) error {
	return &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", err)}
}

func TestConnect(t *testing.T) {
	tests := map[string]struct {
		err    error
		reason driver.Reason
		stage  driver.Stage
		says   string
	}{
		"a name that does not resolve": {
			&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", IsTimeout: true}},
			driver.DNSError, driver.StageResolve, "the name of host:1 does not resolve; check its spelling and the cluster's DNS",
		},
		"a port on which nothing listens": {
			operation("tcp", syscall.ECONNREFUSED), driver.Unreachable, driver.StageConnect,
			"host:1 refuses connections; check the port and that the server runs",
		},
		"a host that does not answer": {
			operation("tcp", syscall.ETIMEDOUT), driver.Timeout, driver.StageConnect,
			"host:1 did not answer in time; check the address, the network and firewalls",
		},
		"a deadline of the caller": {
			fmt.Errorf("dial: %w", context.DeadlineExceeded), driver.Timeout, driver.StageConnect,
			"host:1 did not answer in time; check the address, the network and firewalls",
		},
		"a caller that gave up": {context.Canceled, driver.Timeout, driver.StageConnect, "the caller gave up"},
		"too many open files": {
			operation("tcp", syscall.EMFILE), driver.Unreachable, driver.StageConnect,
			"the operator has no file descriptor left for host:1; raise its limit of open files, or lower size.max of some pools",
		},
		"a firewall of this host": {
			operation("tcp", syscall.EPERM), driver.Unreachable, driver.StageConnect,
			"no connection to host:1; check the address, the network and firewalls",
		},
		"a socket that is not there": {
			operation("unix", syscall.ENOENT), driver.Unreachable, driver.StageConnect,
			"there is no socket host:1; check the path and that the server runs",
		},
		"a socket that is for others": {
			operation("unix", syscall.EACCES), driver.Unreachable, driver.StageConnect,
			"the operator may not use the socket host:1; let its user or group read and write it",
		},
		"anything else": {
			errors.New("boom"), driver.Unreachable, driver.StageConnect,
			"no connection to host:1; check the address, the network and firewalls",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := Connect(tc.err, "host:1", hints)
			want := driver.Error{
				Reason: tc.reason, Stage: tc.stage, Message: tc.says, Err: tc.err, PortRefused: errors.Is(tc.err, syscall.ECONNREFUSED),
			}
			if *got != want {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

func TestConnectSaysWhatTheSystemSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent")
	_, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if got := Connect(err, path, hints); !strings.HasPrefix(got.Message, "there is no socket "+path) {
		t.Errorf("%q", got.Message)
	}
}

func TestAClassifiedErrorStaysAsItIsAndIsCopied(t *testing.T) {
	shared := &driver.Error{Reason: driver.AddressDenied, Stage: driver.StageConnect, Message: "denied", RetryAfter: time.Second}
	got := Connect(fmt.Errorf("dial: %w", shared), "host:1", hints)
	if got == shared || *got != *shared {
		t.Errorf("%+v, want a copy of %+v", got, shared)
	}
}

func TestIsTimeout(t *testing.T) {
	for err, want := range map[error]bool{
		context.DeadlineExceeded:               true,
		os.ErrDeadlineExceeded:                 true,
		operation("tcp", syscall.ETIMEDOUT):    true,
		context.Canceled:                       false,
		operation("tcp", syscall.ECONNREFUSED): false,
	} {
		if got := IsTimeout(err); got != want {
			t.Errorf("IsTimeout(%v) = %t, want %t", err, got, want)
		}
	}
}
