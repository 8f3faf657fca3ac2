package v1alpha1

// Condition types. Ready, Reconciling and Stalled mean what kstatus says.
const (
	// ConditionReady says whether a target or a pool serves. A target does when it has
	// the warm connections that its pools want, and from then on as long as it has some;
	// a pool does while one of its targets does. It is there from the first write of a
	// status, and its observedGeneration tells whether it is about the present spec.
	ConditionReady = "Ready"
	// ConditionReconciling is there only while the operator works towards what the spec
	// asks for and needs no help.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is there only while nothing but a change of the spec, of a
	// Secret or of the server helps; the message says which. The object may serve
	// nevertheless: Ready says so.
	ConditionStalled = "Stalled"
	// ConditionCredentialsReady says, for a target, whether its Secret and host
	// keys can be used.
	ConditionCredentialsReady = "CredentialsReady"
	// ConditionReachable says, for a target, whether the operator can reach it, as far
	// as the newest dials and probes tell.
	ConditionReachable = "Reachable"
	// ConditionDegraded is there, for a pool, only while some of its targets fail: they
	// lack their warm connections, or serve with connections that could not be made
	// again now. The message says which.
	ConditionDegraded = "Degraded"
)

// Reasons by which a failure is classified. They are the reasons of internal/driver
// and stand in CredentialsReady, Reachable, Ready, Stalled and in status.lastError.
const (
	// ReasonUnreachable surfaces when no network connection could be opened, or an
	// open one broke.
	ReasonUnreachable = "Unreachable"
	// ReasonDNSError surfaces when the host name does not resolve.
	ReasonDNSError = "DNSError"
	// ReasonTimeout surfaces when a stage of a dial got no answer within its deadline.
	ReasonTimeout = "Timeout"
	// ReasonAuthenticationFailed surfaces when the server refuses the credentials.
	// The operator then does not dial the target until its Secret or spec changes, or
	// for 5 minutes.
	ReasonAuthenticationFailed = "AuthenticationFailed"
	// ReasonHostKeyMismatch surfaces when the server proves another identity than
	// the pinned one. No credential has been offered to it.
	ReasonHostKeyMismatch = "HostKeyMismatch"
	// ReasonCertificateInvalid surfaces when a TLS or SSH certificate of the server
	// is expired, not yet valid, revoked, or for another name.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonSessionLimit surfaces when the server refuses one more session channel on
	// a connection that otherwise works.
	ReasonSessionLimit = "SessionLimit"
	// ReasonConnectionLimit surfaces when the targets of the namespace have as many
	// connections as the operator's --max-connections-per-namespace allows.
	ReasonConnectionLimit = "ConnectionLimit"
	// ReasonThrottledByServer surfaces when the server refuses connections for a
	// while.
	ReasonThrottledByServer = "ThrottledByServer"
	// ReasonCredentialsMissing surfaces when a Secret is absent, unlabeled, lacks a key,
	// or says that it is not for this host.
	ReasonCredentialsMissing = "CredentialsMissing"
	// ReasonCredentialsInvalid surfaces when the content of a Secret cannot be used. It
	// also surfaces when the server refuses a changed Secret while connections made
	// with the old one go on serving.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonHostKeysInvalid surfaces when the pinned host keys are absent, cannot be
	// parsed, are too weak, or are all for other hosts.
	ReasonHostKeysInvalid = "HostKeysInvalid"
	// ReasonProtocolError surfaces when the server breaks the protocol or its bounds.
	ReasonProtocolError = "ProtocolError"
	// ReasonProbeFailed surfaces when the health command of a pool fails on a target
	// that can otherwise be reached.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonJumpTargetNotReady surfaces when a jump host on the way to the target
	// cannot be used. The conditions of the jump host say why.
	ReasonJumpTargetNotReady = "JumpTargetNotReady"
	// ReasonAddressDenied surfaces when the operator's policy forbids the resolved
	// address.
	ReasonAddressDenied = "AddressDenied"
	// ReasonForbidden surfaces when the server accepts the credentials and refuses
	// what is asked for with them. Give their account the permission there.
	ReasonForbidden = "Forbidden"
	// ReasonNotFound surfaces when the container or pod that a request names does not
	// exist or does not run. Only answers of the live API have it, no condition does.
	ReasonNotFound = "NotFound"
)

// Reasons of conditions that are good.
const (
	// ReasonWarm surfaces in Ready=True of a target when it serves every pool that
	// selects it, and of a pool when every target serves it.
	ReasonWarm = "Warm"
	// ReasonJumpHost surfaces in Ready=True of a target that no pool selects, when it
	// is the jump host of selected targets and has not failed. The operator connects
	// to it when one of them needs it.
	ReasonJumpHost = "JumpHost"
	// ReasonConnected surfaces in Reachable=True when the newest dials and probes
	// succeeded.
	ReasonConnected = "Connected"
	// ReasonCredentialsValid surfaces in CredentialsReady=True when the Secret and the
	// host keys are there and can be used. Reachable says whether the server accepts
	// them.
	ReasonCredentialsValid = "CredentialsValid"
)

// Reasons of conditions that are about to change.
const (
	// ReasonPending surfaces in Ready=Unknown and Reachable=Unknown when the operator
	// has seen the target and no dial has ended yet. It surfaces in Ready=False,
	// CredentialsReady=Unknown and Reconciling=True while keys are being decrypted, or
	// wait because other keys of the namespace come first.
	ReasonPending = "Pending"
	// ReasonWarming surfaces in Ready=False and Reconciling=True when connections are
	// being made and no dial has failed. It surfaces in Reconciling=True alone when more
	// of them are being made for what serves already.
	ReasonWarming = "Warming"
	// ReasonRetrying surfaces in Reconciling=True when an attempt failed and the next
	// one follows without help.
	ReasonRetrying = "Retrying"
	// ReasonRotating surfaces in Reconciling=True when changed credentials are being
	// tried, while connections made with the earlier ones serve.
	ReasonRotating = "Rotating"
)

// Reasons of targets that are not dialed.
const (
	// ReasonNotSelected surfaces in Ready=False and Reachable=Unknown of a target when
	// no pool selects it or a target behind it. The operator does not dial it.
	ReasonNotSelected = "NotSelected"
	// ReasonDriverUnavailable surfaces in Ready=False and Stalled=True of a target
	// when this build of the operator cannot speak its protocol.
	ReasonDriverUnavailable = "DriverUnavailable"
	// ReasonPaused surfaces in Ready=False of a pool when its spec.state is Paused, and
	// of a target when every pool that selects it is paused.
	ReasonPaused = "Paused"
	// ReasonJumpTargetInvalid surfaces in Ready=False and Stalled=True of a target
	// when a jump host in its chain does not exist or is not of type ssh, or when the
	// chain is a cycle or has more than 3 jump hosts. The message prints the chain.
	ReasonJumpTargetInvalid = "JumpTargetInvalid"
)

// Reasons of pools.
const (
	// ReasonDegraded surfaces in Ready=True of a pool when at least one target has its
	// warm connections and others fail. Degraded=True says which.
	ReasonDegraded = "Degraded"
	// ReasonTargetsFailing surfaces in Degraded=True of a pool when targets fail, also
	// those that still serve, and in Ready=False when no target is ready. If only a
	// change by a person helps each of them, it surfaces in Stalled=True, too.
	ReasonTargetsFailing = "TargetsFailing"
	// ReasonNoTargets surfaces in Ready=False of a pool when its targetSelector
	// matches no target.
	ReasonNoTargets = "NoTargets"
	// ReasonTargetNotFound surfaces in Ready=False of a pool when the target that
	// targetRef names does not exist.
	ReasonTargetNotFound = "TargetNotFound"
	// ReasonSelectorInvalid surfaces in Ready=False and Stalled=True of a pool when
	// its targetSelector is not a valid label selector.
	ReasonSelectorInvalid = "SelectorInvalid"
	// ReasonScheduleInvalid surfaces in Stalled=True of a pool when a warming schedule
	// never comes due, such as on 31 February, or names a time zone that the operator
	// does not know.
	ReasonScheduleInvalid = "ScheduleInvalid"
	// ReasonPoolExhausted surfaces when every connection that a pool may have is in
	// use, and the queue is full or no connection became free in time.
	ReasonPoolExhausted = "PoolExhausted"
)

// expectedReasons has each of the API's own reasons. Those by which a failure is
// classified have their classes in internal/driver.
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
