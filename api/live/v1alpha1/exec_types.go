package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Outcome is how a command ended, as far as anybody can know.
type Outcome string

const (
	// OutcomeNotStarted is proved not to have run. It is safe to try again.
	OutcomeNotStarted Outcome = "NotStarted"
	// OutcomeCompleted has ended with an exit code.
	OutcomeCompleted Outcome = "Completed"
	// OutcomeUnknown may have run. No layer tries it again; whoever does must
	// first find out whether it ran.
	OutcomeUnknown Outcome = "Unknown"
)

// Acquired is how the connection for a command was got.
type Acquired string

const (
	// AcquiredWarm means that a session was free.
	AcquiredWarm Acquired = "Warm"
	// AcquiredQueued means that it waited for another use to end.
	AcquiredQueued Acquired = "Queued"
	// AcquiredDialed means that it waited for a new connection.
	AcquiredDialed Acquired = "Dialed"
)

// Bounds of a command. A request beyond them is refused with 400.
const (
	// MaxCommandBytes bounds the words of a command together.
	MaxCommandBytes = 128 << 10
	// MaxCommandArguments bounds their number.
	MaxCommandArguments = 1024
	// MaxExecStdinBytes bounds the input of the JSON form; streams have no bound.
	MaxExecStdinBytes = 1 << 20
	// MaxExecOutputBytes bounds each of stdout and stderr of the JSON form.
	MaxExecOutputBytes = 1 << 20
)

// Exec runs one command and comes back with its result.
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
	// target of the pool to run on. May be absent if the pool has one target by
	// declaration, or routes to any.
	// +optional
	Target string `json:"target,omitempty"`
	// container to run in: required on docker targets, by name or ID; a container of
	// the pod on kubernetes targets, absent for its default or only one; refused on
	// ssh targets.
	// +optional
	Container string `json:"container,omitempty"`
	// pod to run in: required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod; that of the target when absent. Refused without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// command and its arguments, which arrive as given: they are quoted for the
	// remote shell where there is one. At most 1,024 words and 128 KiB.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// shell is a command line that the remote user's shell interprets.
	// +optional
	Shell string `json:"shell,omitempty"`
	// subsystem names a service of the remote server, such as sftp; ssh targets
	// only.
	// +optional
	Subsystem string `json:"subsystem,omitempty"`
	// env is offered to the server, which may ignore it: sshd accepts what its
	// AcceptEnv lists. In a pod it needs the program env.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// stdin of the command, at most 1 MiB; empty when absent.
	// +optional
	Stdin []byte `json:"stdin,omitempty"`
	// timeoutSeconds after which the command is signaled to end and its outcome
	// is Unknown. 0 or absent means no bound but that of the request.
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// requestID makes a repetition safe: while the operator remembers it, at least
	// 10 minutes, the same command with the same ID from the same user is not run
	// again but answered with the first result, unless that was NotStarted; another
	// command is refused with 409. At most 128 characters; absent means that the
	// operator chooses one and every request runs.
	// +optional
	RequestID string `json:"requestID,omitempty"`
}

// ExecStatus is the result of a command.
type ExecStatus struct {
	// outcome is NotStarted, Completed or Unknown.
	Outcome Outcome `json:"outcome"`
	// exitCode of a completed command; 128 plus the signal's number if one ended
	// it. Absent for other outcomes.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`
	// signal that ended the command, without SIG.
	// +optional
	Signal string `json:"signal,omitempty"`
	// reason of an outcome that is not Completed; the same words as in conditions.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says why, and the next step.
	// +optional
	Message string `json:"message,omitempty"`
	// stdout of the command if it is valid UTF-8, at most 1 MiB.
	// +optional
	Stdout string `json:"stdout,omitempty"`
	// stdoutBytes is stdout if it is not valid UTF-8.
	// +optional
	StdoutBytes []byte `json:"stdoutBytes,omitempty"`
	// stderr of the command if it is valid UTF-8, at most 1 MiB.
	// +optional
	Stderr string `json:"stderr,omitempty"`
	// stderrBytes is stderr if it is not valid UTF-8.
	// +optional
	StderrBytes []byte `json:"stderrBytes,omitempty"`
	// truncated reports that stdout or stderr was longer than its bound; the rest
	// was read and dropped, so that the command could go on.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
	// target on which it ran.
	// +optional
	Target string `json:"target,omitempty"`
	// connection over which it ran, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
	// acquired is how the connection was got: Warm, Queued or Dialed.
	// +optional
	Acquired Acquired `json:"acquired,omitempty"`
	// acquireMicroseconds is how long that took.
	// +optional
	AcquireMicroseconds int64 `json:"acquireMicroseconds,omitempty"`
	// durationMicroseconds is how long the command took, without that.
	// +optional
	DurationMicroseconds int64 `json:"durationMicroseconds,omitempty"`
	// requestID under which the operator's audit lines tell of it.
	// +optional
	RequestID string `json:"requestID,omitempty"`
}

// Causes in the details of the metav1.Status that ends a stream, besides the
// ExitCode of the remote command protocol. They carry what ExecStatus has.
const (
	CauseOutcome    metav1.CauseType = "Outcome"
	CauseReason     metav1.CauseType = "Reason"
	CauseSignal     metav1.CauseType = "Signal"
	CauseTarget     metav1.CauseType = "Target"
	CauseConnection metav1.CauseType = "Connection"
	CauseAcquired   metav1.CauseType = "Acquired"
	CauseRequestID  metav1.CauseType = "RequestID"
	// CauseAcquireMicroseconds and CauseDurationMicroseconds are decimal numbers.
	CauseAcquireMicroseconds  metav1.CauseType = "AcquireMicroseconds"
	CauseDurationMicroseconds metav1.CauseType = "DurationMicroseconds"
)
