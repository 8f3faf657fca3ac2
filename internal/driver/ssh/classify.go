package ssh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
)

// hints are the words for SSH in the sentences of dialerr.Connect.
var hints = dialerr.Hints{Address: "the address", Name: "its spelling", Port: "the port", Server: "the SSH server"}

// handshakeError classifies the library's error for a handshake that this driver did
// not end itself.
func handshakeError(err error, stage driver.Stage, address string) *driver.Error {
	if negotiation, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		return negotiationError(negotiation, err)
	}
	if isClosed(err) {
		return driver.Errorf(driver.Unreachable, stage,
			"%s closed the connection; look into the server's log", address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, stage, "%s",
		driver.Sanitize(address+" does not speak SSH as it should: "+libraryText(err))).Because(err)
}

func negotiationError(negotiation *ssh.AlgorithmNegotiationError, err error) *driver.Error {
	offered := driver.Sanitize(strings.Join(negotiation.RequestedAlgorithms, ", "))
	if strings.Contains(negotiation.What, "host key") {
		return &driver.Error{
			Reason: driver.HostKeyMismatch, Stage: driver.StageHostKey, RetryAfter: mismatchRetryAfter, Err: err,
			Message: "the server has no host key of a type that hostKeys pin, only " + offered +
				"; if its keys were changed on purpose, update hostKeys",
		}
	}
	return driver.Errorf(driver.ProtocolError, driver.StageKeyExchange,
		"the server offers no modern %s, only %s; update the server", driver.Sanitize(negotiation.What), offered).Because(err)
}

func libraryText(err error) string {
	text := err.Error()
	for {
		rest, found := strings.CutPrefix(text, "ssh: ")
		if !found {
			rest, found = strings.CutPrefix(text, "handshake failed: ")
		}
		if !found {
			return text
		}
		text = rest
	}
}

// isClosed reports whether the transport ended, and the protocol was not broken. A
// disconnect message of the server counts as an end.
func isClosed(err error) bool {
	_, isNetwork := errors.AsType[*net.OpError](err)
	return isNetwork || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "ssh: disconnect")
}

// throttleSigns are what sshd says instead of its version when it takes no more
// connections, from this client or any, and how long to wait then.
var throttleSigns = map[string]time.Duration{
	"Not allowed at this time": time.Minute,
	"Exceeded MaxStartups":     2 * time.Second,
}

// throttled returns an error if the greeting says that the server refuses connections
// for a while, or nil.
func throttled(greeting, address string) *driver.Error {
	for sign, wait := range throttleSigns {
		if strings.Contains(greeting, sign) {
			return &driver.Error{
				Reason: driver.ThrottledByServer, Stage: driver.StageBanner, RetryAfter: wait,
				Message: fmt.Sprintf("%s takes no connections for now (%q); "+
					"look for failing logins from here, or raise MaxStartups or relax PerSourcePenalties in its sshd_config",
					address, sign),
			}
		}
	}
	return nil
}

// sessionError classifies why the server opened no session channel. It returns nil if
// the error is not the server's answer.
func sessionError(err error) *driver.Error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	switch {
	case !ok:
		return nil
	case refused.Reason == ssh.UnknownChannelType:
		return driver.Errorf(driver.ProtocolError, driver.StageSession, "the server offers no sessions").Because(err)
	}
	return driver.Errorf(driver.SessionLimit, driver.StageSession, "%s",
		driver.Sanitize("the server refuses one more session on this connection ("+refused.Message+
			"); lower sessionsPerConnection, or raise MaxSessions in its sshd_config")).Because(err)
}

// forwardError classifies why the server opened no stream. It returns nil if the error
// is not the server's answer.
func forwardError(err error, address string) *driver.Error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	if !ok {
		return nil
	}
	result := &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Err: err}
	switch refused.Reason {
	case ssh.Prohibited, ssh.UnknownChannelType:
		result.Message = "the server forbids forwarding to " + address +
			"; allow it with AllowTcpForwarding, AllowStreamLocalForwarding or PermitOpen in its sshd_config"
	case ssh.ResourceShortage:
		result.Reason = driver.SessionLimit
		result.Message = "the server has no room for one more stream on this connection"
	default:
		result.Message = driver.Sanitize("the server cannot connect to " + address + ": " + refused.Message)
		if path.IsAbs(address) {
			result.Message += "; if the socket is there, the user may lack the right to it: put the user into the socket's group, " +
				"such as docker, and drain the pool, because a connection keeps the groups of its login"
		}
	}
	return result
}
