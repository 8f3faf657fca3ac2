package v1alpha1

// Condition types. Ready, Reconciling and Stalled mean what kstatus says:
//
//   - Ready is there from the first write of a status, and its observedGeneration
//     tells whether it is about the present spec.
//   - Reconciling is there only while true: the operator works towards Ready and
//     needs nobody's help.
//   - Stalled is there only while true: nothing but a change of the spec, of a
//     Secret or of the remote can help, and the message says which.
const (
	// ConditionReady says whether a target has the warm connections that its pools
	// want, or whether a pool can serve.
	ConditionReady = "Ready"
	// ConditionReconciling is there only while the operator works towards Ready.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is there only while nothing but a change by somebody helps.
	ConditionStalled = "Stalled"
	// ConditionCredentialsReady says, for a target, whether its Secret and host
	// keys can be used.
	ConditionCredentialsReady = "CredentialsReady"
	// ConditionReachable says, for a target, whether the newest attempt to reach it
	// worked.
	ConditionReachable = "Reachable"
	// ConditionDegraded is there, for a pool, only while some of its targets lack
	// their warm connections; the message says which.
	ConditionDegraded = "Degraded"
)

// Reasons by which a failure is classified. They have the names of the classes
// in the driver seam, and stand in CredentialsReady, Reachable, Ready, Stalled
// and in status.lastError.
const (
	// ReasonUnreachable surfaces when no transport could be opened, or a live one
	// died.
	ReasonUnreachable = "Unreachable"
	// ReasonDNSError surfaces when the host name does not resolve.
	ReasonDNSError = "DNSError"
	// ReasonTimeout surfaces when a stage got no answer within its deadline.
	ReasonTimeout = "Timeout"
	// ReasonAuthenticationFailed surfaces when the server refuses the credentials.
	// The target is then parked until its Secret or spec changes, or for 5 minutes.
	ReasonAuthenticationFailed = "AuthenticationFailed"
	// ReasonHostKeyMismatch surfaces when the server proves another identity than
	// the pinned one. No credential has been offered to it.
	ReasonHostKeyMismatch = "HostKeyMismatch"
	// ReasonCertificateInvalid surfaces when a TLS or SSH certificate of the server
	// is expired, not yet valid, revoked, or for another name.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonSessionLimit surfaces when the server refuses one more session on a
	// connection that otherwise works.
	ReasonSessionLimit = "SessionLimit"
	// ReasonThrottledByServer surfaces when the server refuses connections for a
	// while.
	ReasonThrottledByServer = "ThrottledByServer"
	// ReasonCredentialsMissing surfaces when a Secret is absent, unlabeled or lacks
	// a key.
	ReasonCredentialsMissing = "CredentialsMissing"
	// ReasonCredentialsInvalid surfaces when a Secret's content cannot be used, or
	// when a changed Secret is refused while connections made with the old one go
	// on serving.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonHostKeysInvalid surfaces when the pinned host keys are absent, cannot be
	// parsed, are too weak, or are all for other hosts.
	ReasonHostKeysInvalid = "HostKeysInvalid"
	// ReasonProtocolError surfaces when the remote breaks the protocol or its bounds.
	ReasonProtocolError = "ProtocolError"
	// ReasonProbeFailed surfaces when the health command of a pool fails on a target
	// that can otherwise be reached.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonJumpTargetNotReady surfaces when the jump target on the way cannot be
	// reached; that one's conditions say why.
	ReasonJumpTargetNotReady = "JumpTargetNotReady"
	// ReasonAddressDenied surfaces when policy forbids the resolved address.
	ReasonAddressDenied = "AddressDenied"
	// ReasonForbidden surfaces when the remote knows the credentials and refuses
	// what is asked for with them; give their account the permission there.
	ReasonForbidden = "Forbidden"
	// ReasonNotFound surfaces when the container or pod that a request names does
	// not exist or does not run; no condition has it, only answers of the live API.
	ReasonNotFound = "NotFound"
)

// Reasons of conditions that are as they should be.
const (
	// ReasonWarm surfaces in Ready=True when the warm connections that are wanted
	// are there: for a target, by every pool; for a pool, to every target.
	ReasonWarm = "Warm"
	// ReasonJumpHost surfaces in Ready=True of a target that no pool selects, but
	// through which selected targets are reached: it is connected when one of them
	// needs it, and nothing says that it would fail.
	ReasonJumpHost = "JumpHost"
	// ReasonConnected surfaces in Reachable=True when a connection lives, or the
	// newest attempt made one.
	ReasonConnected = "Connected"
	// ReasonCredentialsValid surfaces in CredentialsReady=True when the Secret and
	// the host keys are there and can be used. Whether the server accepts them is
	// said by Reachable.
	ReasonCredentialsValid = "CredentialsValid"
)

// Reasons of conditions on the way.
const (
	// ReasonPending surfaces in Ready=Unknown when the operator has seen the object
	// and knows nothing yet.
	ReasonPending = "Pending"
	// ReasonWarming surfaces in Ready=False and Reconciling=True when connections
	// are being made and none has failed.
	ReasonWarming = "Warming"
	// ReasonRetrying surfaces in Reconciling=True when an attempt failed and the
	// next one is waited for.
	ReasonRetrying = "Retrying"
	// ReasonRotating surfaces in Reconciling=True when connections made with an old
	// Secret or spec are being replaced.
	ReasonRotating = "Rotating"
)

// Reasons of targets that are not dialed.
const (
	// ReasonNotSelected surfaces in Ready=False of a target, and in
	// Reachable=Unknown, when no pool selects it, nor any target that is reached
	// through it, so that it is not dialed.
	ReasonNotSelected = "NotSelected"
	// ReasonDriverUnavailable surfaces in Ready=False and Stalled=True of a target
	// when this build of the operator cannot speak its protocol.
	ReasonDriverUnavailable = "DriverUnavailable"
	// ReasonPaused surfaces in Ready=False of a pool when its spec.state is Paused,
	// and of a target when every pool that selects it is.
	ReasonPaused = "Paused"
	// ReasonJumpTargetInvalid surfaces in Ready=False and Stalled=True of a target
	// when its chain of jump targets has one that is missing or not of kind ssh, is
	// a cycle, or is deeper than 3. The message prints the chain.
	ReasonJumpTargetInvalid = "JumpTargetInvalid"
)

// Reasons of pools.
const (
	// ReasonDegraded surfaces in Ready=True of a pool when at least one target has
	// its warm connections and others have not. Degraded=True says which.
	ReasonDegraded = "Degraded"
	// ReasonTargetsFailing surfaces in Degraded=True of a pool when targets lack
	// their warm connections because they fail, and in Ready=False when all do.
	ReasonTargetsFailing = "TargetsFailing"
	// ReasonNoTargets surfaces in Ready=False of a pool when its targetSelector
	// matches no target.
	ReasonNoTargets = "NoTargets"
	// ReasonTargetNotFound surfaces in Ready=False of a pool when the target that
	// targetRef names does not exist.
	ReasonTargetNotFound = "TargetNotFound"
	// ReasonSelectorInvalid surfaces in Ready=False and Stalled=True of a pool when
	// its targetSelector is no valid label selector.
	ReasonSelectorInvalid = "SelectorInvalid"
	// ReasonScheduleInvalid surfaces in Stalled=True of a pool when a warming
	// schedule never comes due, such as on 31 February, or names a time zone that
	// the operator does not know.
	ReasonScheduleInvalid = "ScheduleInvalid"
	// ReasonPoolExhausted surfaces when a request finds every connection in use,
	// none may be added, and the queue is full.
	ReasonPoolExhausted = "PoolExhausted"
)

// expectedReasons says of each of the API's own reasons whether it is expected: an
// object is as its user wants it, or on the way there without a failure. The
// reasons by which a failure is classified have their classes in internal/driver.
var expectedReasons = map[string]bool{
	ReasonWarm:              true,
	ReasonJumpHost:          true,
	ReasonConnected:         true,
	ReasonCredentialsValid:  true,
	ReasonPending:           true,
	ReasonWarming:           true,
	ReasonRetrying:          false,
	ReasonRotating:          true,
	ReasonNotSelected:       true,
	ReasonDriverUnavailable: false,
	ReasonPaused:            true,
	ReasonJumpTargetInvalid: false,
	ReasonDegraded:          false,
	ReasonTargetsFailing:    false,
	ReasonNoTargets:         false,
	ReasonTargetNotFound:    false,
	ReasonSelectorInvalid:   false,
	ReasonScheduleInvalid:   false,
}

// IsExpectedReason reports whether a condition with the reason says that an object
// is as its user wants it, or on the way there without a failure.
func IsExpectedReason(reason string) bool { return expectedReasons[reason] }
