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
	// DefaultTargetOutputBytes bounds each of stdout and stderr of each target of a command
	// with targets that sets no other bound.
	DefaultTargetOutputBytes = 64 << 10
	// MaxExecTargets bounds how many targets a command with targets can name.
	MaxExecTargets = 10000
	// DefaultParallelism and MaxParallelism are on how many targets a command with targets
	// runs at the same time.
	DefaultParallelism = 128
	MaxParallelism     = 1024
)

// ExecLines is the media type of the answer to an Exec with targets.
const ExecLines = "application/x-ndjson"

// Exec runs one command and returns its result. With spec.targets, it runs the command on
// many targets, and the answer is a stream of lines of JSON instead: an ExecPlan, an
// ExecResult for each target as soon as it is known, and an ExecSummary at the end.
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
	// targets runs the command on many targets of the pool, on each at most once. Refused
	// with target and subsystem, and in sessions. timeoutSeconds then bounds the command of
	// each target, and a requestID is remembered for each target: the same request again
	// runs the command only where it has not begun. Absent means one target.
	// +optional
	Targets *ExecTargets `json:"targets,omitempty"`
}

// ExecTargets are targets of a pool. Exactly one of all, names, selector and stop is set.
type ExecTargets struct {
	// all targets of the pool.
	// +optional
	All bool `json:"all,omitempty"`
	// names of targets, at most 10,000 and none twice. The pool need not have all of them:
	// the result of one that it lacks is NotStarted with the reason NotFound.
	// +optional
	// +listType=atomic
	Names []string `json:"names,omitempty"`
	// selector selects those targets of the pool whose labels match. An empty selector is
	// refused; use all.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// parallelism is on how many targets the command runs at the same time, at most 1024. It
	// runs on fewer while the uses of all clients have taken half of a limit on uses. 0 or
	// absent means 128.
	// +optional
	Parallelism int32 `json:"parallelism,omitempty"`
	// failFast starts the command on no more targets after it has failed on one: it did not
	// complete there, or with an exit code other than 0. What runs goes on. The result of
	// targets on which it did not begin is NotStarted with the reason FailFast.
	// +optional
	FailFast bool `json:"failFast,omitempty"`
	// outputBytes is how much is kept of each of stdout and stderr of each target, at most
	// 1 MiB. 0 or absent means 64 KiB.
	// +optional
	OutputBytes int32 `json:"outputBytes,omitempty"`
	// stop starts no command. It ends the user's command on targets of the pool that has
	// spec.requestID, the one in the plan if its client has sent none: the command begins
	// on no more targets, what runs is ended as if the client had left, and the answer of
	// that command goes on to its summary. Nothing but spec.requestID is set with it.
	// +optional
	Stop bool `json:"stop,omitempty"`
}

// Reasons, in the result of a target, for which a command with targets did not begin there.
const (
	// ReasonNotFound means that the pool has no such target.
	ReasonNotFound = "NotFound"
	// ReasonFailFast means that the command has failed on another target before.
	ReasonFailFast = "FailFast"
	// ReasonStopped means that the client has stopped the command. It is also that of the
	// targets on which the command was running then, whose outcome is Unknown.
	ReasonStopped = "Stopped"
)

// ExecPlan is the first line of the answer to an Exec with targets.
//
// +kubebuilder:object:root=true
type ExecPlan struct {
	metav1.TypeMeta `json:",inline"`

	// targets on which the command is to run, in the order in which it starts: by name, as
	// people count, so that web-2 is before web-10. Each gets one ExecResult.
	// +listType=atomic
	Targets []string `json:"targets"`
	// parallelism is on how many of them it runs at the same time at most.
	Parallelism int32 `json:"parallelism"`
	// requestID of the whole, and of each target, in the operator's audit lines.
	RequestID string `json:"requestID"`
}

// ExecResult is a line of the answer to an Exec with targets. It is sent as soon as the
// command has ended on the target, or is known not to start there.
//
// +kubebuilder:object:root=true
type ExecResult struct {
	metav1.TypeMeta `json:",inline"`

	// target of the pool.
	Target string `json:"target"`
	// status is the result of the command on the target.
	Status ExecStatus `json:"status"`
}

// ExecSummary is the last line of the answer to an Exec with targets. Without it the answer
// is broken off, and the outcome on the targets without an ExecResult is Unknown.
//
// +kubebuilder:object:root=true
type ExecSummary struct {
	metav1.TypeMeta `json:",inline"`

	// targets is how many targets there were. Each of them is in one of the next three.
	Targets int32 `json:"targets"`
	// completed is on how many targets the command has ended with an exit code.
	Completed int32 `json:"completed"`
	// notStarted is on how many targets the command has provably not run.
	NotStarted int32 `json:"notStarted"`
	// unknown is on how many targets the command may have run.
	Unknown int32 `json:"unknown"`
	// exitCodes is how many of the completed commands have ended with which exit code.
	// +optional
	ExitCodes map[string]int32 `json:"exitCodes,omitempty"`
	// durationMicroseconds is how long the whole took.
	DurationMicroseconds int64 `json:"durationMicroseconds"`
	// requestID of the whole, and of each target, in the operator's audit lines.
	RequestID string `json:"requestID"`
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
	// stdout of the command, at most 1 MiB or outputBytes of targets, if it is valid UTF-8 that at most doubles in
	// size as JSON. Text that is mostly control characters is in stdoutBytes.
	// +optional
	Stdout string `json:"stdout,omitempty"`
	// stdoutBytes is stdout if the field stdout cannot hold it.
	// +optional
	StdoutBytes []byte `json:"stdoutBytes,omitempty"`
	// stderr of the command, at most 1 MiB or outputBytes of targets, if it is valid UTF-8 that at most doubles in
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
