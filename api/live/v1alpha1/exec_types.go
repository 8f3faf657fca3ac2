package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Outcome is how a command ended, as far as the operator can know.
type Outcome string

const (
	// OutcomeNotStarted means that the command has provably not run. It is safe to
	// run it again.
	OutcomeNotStarted Outcome = "NotStarted"
	// OutcomeCompleted means that the command ended with an exit code.
	OutcomeCompleted Outcome = "Completed"
	// OutcomeUnknown means that the command may have run. The operator does not run it
	// again. A client must find out whether it ran before it runs it again.
	OutcomeUnknown Outcome = "Unknown"
)

// Acquired is how a command got its connection.
type Acquired string

const (
	// AcquiredWarm means that a warm connection had room for it.
	AcquiredWarm Acquired = "Warm"
	// AcquiredQueued means that the command waited for another use to end.
	AcquiredQueued Acquired = "Queued"
	// AcquiredDialed means that the command waited for a new connection.
	AcquiredDialed Acquired = "Dialed"
)

// Bounds of a command. A request beyond them is refused with 400, but for output,
// which is cut.
const (
	// MaxCommandBytes bounds the total size of a command's words.
	MaxCommandBytes = 128 << 10
	// MaxCommandArguments bounds the number of a command's words.
	MaxCommandArguments = 1024
	// MaxExecStdinBytes bounds the input of the JSON form. Streams have no bound.
	MaxExecStdinBytes = 1 << 20
	// MaxExecOutputBytes bounds each of stdout and stderr of the JSON form.
	MaxExecOutputBytes = 1 << 20
)

// Exec runs one command and returns its result.
//
// +kubebuilder:object:root=true
type Exec struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ExecSpec `json:"spec"`
	// status is the result.
	// +optional
	Status ExecStatus `json:"status,omitempty"`
}

// ExecSpec is a command. Exactly one of command, shell and subsystem is set.
type ExecSpec struct {
	// target of the pool to run on. May be absent if the pool has targetRef, or the
	// routing LeastLoaded.
	// +optional
	Target string `json:"target,omitempty"`
	// container to run in. On docker targets, its name or ID; absent means the only
	// container that runs there. On kubernetes targets, a container of the pod; absent
	// means the pod's default or only container. Refused on ssh targets.
	// +optional
	Container string `json:"container,omitempty"`
	// pod to run in. Required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod. Absent means the target's defaultNamespace. Refused
	// without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// command and its arguments, which arrive at the program unchanged: they are
	// quoted if a remote shell interprets them. At most 1,024 words and 128 KiB.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// shell is a command line that the remote user's shell interprets.
	// +optional
	Shell string `json:"shell,omitempty"`
	// subsystem names a service of the server, such as sftp. Only ssh targets have
	// subsystems.
	// +optional
	Subsystem string `json:"subsystem,omitempty"`
	// env holds environment variables. If a server refuses one, the command is not
	// started: sshd accepts only those that its AcceptEnv lists. In a pod, the program
	// env must exist.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// stdin of the command, at most 1 MiB. Absent means empty.
	// +optional
	Stdin []byte `json:"stdin,omitempty"`
	// timeoutSeconds is the number of seconds after which the command is signaled to end.
	// Its outcome is then Unknown, and the message says whether the server confirmed its
	// end. 0 or absent means that only the request's own timeout holds.
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// requestID makes it safe to repeat a request. The operator remembers the result
	// for at least 10 minutes. If the same user sends the same command with the same
	// ID in that time, the operator answers with the first result and does not run the
	// command again, unless the first outcome was NotStarted. Another command with the
	// same ID is refused with 409. At most 128 characters. Absent means that the
	// operator chooses an ID and every request runs.
	// +optional
	RequestID string `json:"requestID,omitempty"`
}

// ExecStatus is the result of a command.
type ExecStatus struct {
	// outcome is NotStarted, Completed or Unknown.
	Outcome Outcome `json:"outcome"`
	// exitCode of a completed command. It is 128 plus the number of the signal if a
	// signal ended the command. Absent for other outcomes.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`
	// signal that ended the command, without SIG. Absent if no signal did.
	// +optional
	Signal string `json:"signal,omitempty"`
	// reason of an outcome that is not Completed, one of the reasons of conditions.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says why the outcome is not Completed, and the next step.
	// +optional
	Message string `json:"message,omitempty"`
	// stdout of the command, at most 1 MiB, if it is valid UTF-8 that at most doubles in
	// size as JSON. Text that is mostly control characters is in stdoutBytes.
	// +optional
	Stdout string `json:"stdout,omitempty"`
	// stdoutBytes is stdout if the field stdout cannot hold it.
	// +optional
	StdoutBytes []byte `json:"stdoutBytes,omitempty"`
	// stderr of the command, at most 1 MiB, if it is valid UTF-8 that at most doubles in
	// size as JSON. Text that is mostly control characters is in stderrBytes.
	// +optional
	Stderr string `json:"stderr,omitempty"`
	// stderrBytes is stderr if the field stderr cannot hold it.
	// +optional
	StderrBytes []byte `json:"stderrBytes,omitempty"`
	// truncated says whether stdout or stderr was longer than its bound, or than the memory
	// that was left for output. The operator read and dropped the rest, so that the command
	// could go on.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
	// target on which the command ran.
	// +optional
	Target string `json:"target,omitempty"`
	// container in which the command ran, if the operator chose it because spec names none.
	// +optional
	Container string `json:"container,omitempty"`
	// connection over which the command ran, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
	// acquired is how the command got its connection: Warm, Queued or Dialed.
	// +optional
	Acquired Acquired `json:"acquired,omitempty"`
	// acquireMicroseconds is how long the command waited for its connection.
	// +optional
	AcquireMicroseconds int64 `json:"acquireMicroseconds,omitempty"`
	// durationMicroseconds is how long the command ran, without that wait.
	// +optional
	DurationMicroseconds int64 `json:"durationMicroseconds,omitempty"`
	// requestID of the command in the operator's audit lines.
	// +optional
	RequestID string `json:"requestID,omitempty"`
}

// SignalsBy is what delivers the signals of a stream to its command. It is in the header
// Connpool-Signals of the answer to an upgrade.
type SignalsBy string

const (
	// SignalsByServer means that the SSH server is asked to deliver them. It does not say
	// whether it does: OpenSSH before 7.9 does not, and no version does for root and
	// forced commands.
	SignalsByServer SignalsBy = "Server"
	// SignalsByHelper means that a second command in the container sends them, which
	// needs a shell there.
	SignalsByHelper SignalsBy = "Helper"
	// SignalsByNone means that the target has no way to signal a command, like a pod.
	SignalsByNone SignalsBy = "None"
)

// Reasons, in the cause Reason, for which a request in a namespace is refused before anything
// else of it is looked at.
const (
	// ReasonNamespaceNotWatched means that the operator watches other namespaces only.
	ReasonNamespaceNotWatched = "NamespaceNotWatched"
	// ReasonNamespaceNotReadable means that the operator watches the namespace, but lacks
	// the right to read pools, targets, Secrets or ConfigMaps in it.
	ReasonNamespaceNotReadable = "NamespaceNotReadable"
)

// Causes in the details of the metav1.Status that ends a stream, besides the
// ExitCode of the remote command protocol. They carry the fields of ExecStatus.
const (
	CauseOutcome    metav1.CauseType = "Outcome"
	CauseReason     metav1.CauseType = "Reason"
	CauseSignal     metav1.CauseType = "Signal"
	CauseTarget     metav1.CauseType = "Target"
	CauseContainer  metav1.CauseType = "Container"
	CauseConnection metav1.CauseType = "Connection"
	CauseAcquired   metav1.CauseType = "Acquired"
	CauseRequestID  metav1.CauseType = "RequestID"
	// CauseAcquireMicroseconds and CauseDurationMicroseconds are decimal numbers.
	CauseAcquireMicroseconds  metav1.CauseType = "AcquireMicroseconds"
	CauseDurationMicroseconds metav1.CauseType = "DurationMicroseconds"
)
