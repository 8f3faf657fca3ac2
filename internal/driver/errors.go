package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Reason classifies a failure. The names are the condition reasons of the API.
type Reason string

const (
	// Unreachable surfaces when no transport could be opened, or a live one died.
	Unreachable Reason = "Unreachable"
	// DNSError surfaces when the host name does not resolve.
	DNSError Reason = "DNSError"
	// Timeout surfaces when a stage got no answer within its deadline.
	Timeout Reason = "Timeout"
	// AuthenticationFailed surfaces when the server refuses the credentials.
	AuthenticationFailed Reason = "AuthenticationFailed"
	// HostKeyMismatch surfaces when the server proves another identity than the
	// pinned one; no credential has been offered to it.
	HostKeyMismatch Reason = "HostKeyMismatch"
	// CertificateInvalid surfaces when a TLS or SSH certificate of the server is
	// expired, not yet valid, revoked, or for another name.
	CertificateInvalid Reason = "CertificateInvalid"
	// SessionLimit surfaces when the server refuses one more session channel on a
	// connection that otherwise works.
	SessionLimit Reason = "SessionLimit"
	// ConnectionLimit surfaces when the targets of a namespace have as many connections
	// as the operator's --max-connections-per-namespace allows.
	ConnectionLimit Reason = "ConnectionLimit"
	// ThrottledByServer surfaces when the server refuses connections for a while.
	ThrottledByServer Reason = "ThrottledByServer"
	// CredentialsMissing surfaces when the Secret is absent, unlabeled or lacks
	// a key.
	CredentialsMissing Reason = "CredentialsMissing"
	// CredentialsInvalid surfaces when the Secret's content cannot be used.
	CredentialsInvalid Reason = "CredentialsInvalid"
	// HostKeysInvalid surfaces when the pinned host keys cannot be used.
	HostKeysInvalid Reason = "HostKeysInvalid"
	// ProtocolError surfaces when the remote breaks the protocol or its bounds.
	ProtocolError Reason = "ProtocolError"
	// ProbeFailed surfaces when the health command of a pool fails on a target
	// that can otherwise be reached.
	ProbeFailed Reason = "ProbeFailed"
	// JumpTargetNotReady surfaces when the jump host on the way cannot be reached.
	JumpTargetNotReady Reason = "JumpTargetNotReady"
	// PoolExhausted surfaces when every connection that a pool may have is in use
	// and none became free in time.
	PoolExhausted Reason = "PoolExhausted"
	// AddressDenied surfaces when policy forbids the resolved address.
	AddressDenied Reason = "AddressDenied"
	// Forbidden surfaces when the remote knows the credentials and refuses what is
	// asked for with them.
	Forbidden Reason = "Forbidden"
	// NotFound surfaces when the container or pod that a request names does not
	// exist or does not run.
	NotFound Reason = "NotFound"
)

// class says what to do next about a reason. A reason in no class is about one request
// as a rule. Forbidden can also be the condition of a target: its server forbids what
// every dial or probe asks for.
type class struct {
	// permanent failures need a change of the Secret, the pinned keys, the spec or the
	// server. Repeating the attempt does not cure them.
	permanent bool
	// transient failures may cure themselves.
	transient bool
	// identity failures say that the server is not the pinned one, or that the pins
	// cannot tell.
	identity bool
	// declared failures are in what the target refers to, not in its server: the
	// Secret or the pinned keys.
	declared bool
}

var classes = map[Reason]class{
	Unreachable:          {transient: true},
	DNSError:             {transient: true},
	Timeout:              {transient: true},
	AuthenticationFailed: {permanent: true},
	HostKeyMismatch:      {permanent: true, identity: true},
	CertificateInvalid:   {permanent: true, identity: true},
	SessionLimit:         {transient: true},
	ConnectionLimit:      {transient: true},
	ThrottledByServer:    {transient: true},
	CredentialsMissing:   {permanent: true, declared: true},
	CredentialsInvalid:   {permanent: true, declared: true},
	HostKeysInvalid:      {permanent: true, identity: true, declared: true},
	ProtocolError:        {transient: true},
	ProbeFailed:          {transient: true},
	JumpTargetNotReady:   {transient: true},
	PoolExhausted:        {},
	AddressDenied:        {permanent: true},
	Forbidden:            {},
	NotFound:             {},
}

// Permanent reports whether only a change by a person cures the failure: of the
// Secret, the pinned keys, the spec or the server.
func (r Reason) Permanent() bool { return classes[r].permanent }

// Transient reports whether the failure may cure itself.
func (r Reason) Transient() bool { return classes[r].transient }

// AboutDeclaration reports whether the failure lies in the Secret or the pinned
// keys that the target refers to, whatever its server says.
func (r Reason) AboutDeclaration() bool { return classes[r].declared }

// Stage is the step of reaching a target, or of running a command, that failed.
type Stage string

// The stages, in the order in which they happen.
const (
	StagePrepare        Stage = "prepare"
	StageResolve        Stage = "resolve"
	StageConnect        Stage = "connect"
	StageBanner         Stage = "banner"
	StageKeyExchange    Stage = "key exchange"
	StageHostKey        Stage = "host key"
	StageTLS            Stage = "TLS"
	StageAuthentication Stage = "authentication"
	StageSession        Stage = "session"
	StageStart          Stage = "start"
	StageRun            Stage = "run"
	StageKeepalive      Stage = "keepalive"
)

// Error is a classified failure.
type Error struct {
	Reason Reason
	Stage  Stage
	// Message is one plain sentence with the next step. It holds no secret, no
	// control character and no timestamp, so it can stand in a condition.
	Message string
	// Started is true if a command may have run: its outcome is Unknown. False proves
	// that it has not: NotStarted, safe to retry.
	Started bool
	// RetryAfter is how long to wait before the next attempt, because the server asks for
	// it or the driver advises it; 0 leaves it to the caller's backoff.
	RetryAfter time.Duration
	// PortRefused says that the host answered and nothing listens on its port, so that it
	// costs little to ask again soon.
	PortRefused bool
	// MayCureSoon says that a server that is new may be about to accept the credentials.
	MayCureSoon bool
	// Leftover is set if the server did not confirm that a command had ended, which then
	// occupies its channel. It is closed when the server does, or the connection ends.
	Leftover <-chan struct{}
	// Err is the inner cause, for logs.
	Err error
}

// Errorf returns an error about something that was not started. The message must be as
// safe as that of an Error.
func Errorf(reason Reason, stage Stage, format string, args ...any) *Error {
	return &Error{Reason: reason, Stage: stage, Message: fmt.Sprintf(format, args...)}
}

// Unknownf is Errorf for a command that may have run.
func Unknownf(reason Reason, stage Stage, format string, args ...any) *Error {
	result := Errorf(reason, stage, format, args...)
	result.Started = true
	return result
}

// Because sets the inner cause, and returns the error itself. Of a cause with the long
// words of a remote the beginning is kept, since errors are remembered.
func (e *Error) Because(cause error) *Error {
	if e.Err = cause; cause != nil && len(cause.Error()) > 4*maxRemoteWords {
		e.Err = errors.New(Sanitize(cause.Error()))
	}
	return e
}

// Error returns the stage and the message, without the inner cause. The outcome of a
// command says already that it failed at its start.
func (e *Error) Error() string {
	if e.Stage == "" || e.Stage == StageStart {
		return e.Message
	}
	return fmt.Sprintf("%s: %s", e.Stage, e.Message)
}

// AboutIdentity reports whether the failure says that the server is not the
// pinned one, or that the pins cannot tell. An invalid certificate that is found
// before anything was dialed is the operator's own, and says nothing of the server.
func (e *Error) AboutIdentity() bool {
	return classes[e.Reason].identity && (e.Reason != CertificateInvalid || e.Stage != StagePrepare)
}

// Unwrap returns the inner cause.
func (e *Error) Unwrap() error { return e.Err }

// Outcome is how a command ended, as seen by its caller.
type Outcome string

const (
	// NotStarted means proven not to have run: safe to retry.
	NotStarted Outcome = "NotStarted"
	// Completed means ended with a known exit status.
	Completed Outcome = "Completed"
	// Unknown means it may have run: no layer retries it.
	Unknown Outcome = "Unknown"
)

// OutcomeOf returns how a command ended, given the error of Execer.Exec. An error that
// is not classified counts as Unknown.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Completed
	}
	if classified, ok := errors.AsType[*Error](err); ok && !classified.Started {
		return NotStarted
	}
	return Unknown
}

// Classified returns a copy of the classified error in err's chain, if there is
// one. The original may be shared, as the cause of a connection's end is by all
// callers that it is told to; the copy belongs to the caller, who may change it.
func Classified(err error) (*Error, bool) {
	shared, ok := errors.AsType[*Error](err)
	if !ok {
		return nil, false
	}
	own := *shared
	return &own, true
}

// Ended returns why an operation failed on a connection that has ended. It has
// the reason and the message of the cause, and belongs to the caller.
func Ended(cause error, address string, stage Stage, started bool) *Error {
	result := &Error{
		Reason: Unreachable, Stage: stage, Started: started, Err: cause,
		Message: "the connection to " + address + " was closed",
	}
	if shared, ok := errors.AsType[*Error](cause); ok {
		result.Reason, result.Message = shared.Reason, shared.Message
	}
	return result
}

// AsError returns a copy of the classified error in err's chain. An error that is
// not classified becomes a Timeout if a deadline ended it, else a ProtocolError.
func AsError(err error) *Error {
	if classified, ok := Classified(err); ok {
		return classified
	}
	reason := ProtocolError
	if errors.Is(err, context.DeadlineExceeded) {
		reason = Timeout
	}
	return &Error{Reason: reason, Message: Sanitize(err.Error()), Err: err}
}

// maxRemoteWords bounds how many bytes of a remote's text are repeated.
const maxRemoteWords = 256

// Sanitize makes a remote's text safe for a condition, a log line or a
// terminal: one line, no control or format characters, valid UTF-8, at most
// 256 bytes.
func Sanitize(s string) string {
	if len(s) > 4*maxRemoteWords {
		s = s[:4*maxRemoteWords]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxRemoteWords {
		return s
	}
	cut := maxRemoteWords
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
