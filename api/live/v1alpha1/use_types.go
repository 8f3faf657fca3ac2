package v1alpha1

import (
	"cmp"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UseState is whether a use goes on.
type UseState string

const (
	// UseRunning has a connection now.
	UseRunning UseState = "Running"
	// UseEnded had a connection, and has given it back.
	UseEnded UseState = "Ended"
	// UseRefused never had one: nothing was started.
	UseRefused UseState = "Refused"
)

// UseAction is what a connection is used for.
type UseAction string

const (
	// UseExec runs a command, or copies files.
	UseExec UseAction = "exec"
	// UseSession keeps a shell. Its commands are uses of their own, which name it.
	UseSession UseAction = "session"
	// UsePortForward forwards ports.
	UsePortForward UseAction = "portforward"
	// UseProxy passes an HTTP request on.
	UseProxy UseAction = "proxy"
	// UseListing lists containers or pods, with the permission of exec, and runs nothing.
	UseListing UseAction = "list"
)

// Use is one use of a pool: who used it, for what, and how that ended. It says what the
// audit lines say, and is kept in the operator's memory: the newest of each namespace,
// and none from before the operator's start. It never holds input, output or environment
// of a command. Its creation time is when the use began.
//
// +kubebuilder:object:root=true
type Use struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// pool that was used.
	Pool string `json:"pool"`
	// target that was used. For a refused use it is the one that the request names, and
	// absent if it names none.
	// +optional
	Target string `json:"target,omitempty"`
	// user who sent the request.
	User string `json:"user"`
	// action is exec, list, session, portforward or proxy.
	Action UseAction `json:"action"`
	// state is Running, Ended or Refused.
	State UseState `json:"state"`
	// endTime is when the use ended or was refused. Absent while it runs.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`
	// durationMicroseconds is how long the use has had its connection.
	// +optional
	DurationMicroseconds int64 `json:"durationMicroseconds,omitempty"`
	// outcome is Completed, NotStarted or Unknown, as for commands. Absent while the use
	// runs, and for sessions and port-forwards that had a connection.
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`
	// exitCode of a command that has completed.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`
	// httpStatus is the code of the answer to a proxied request, or to a request that was
	// refused.
	// +optional
	HTTPStatus int32 `json:"httpStatus,omitempty"`
	// reason of an end that is not Completed: one of the reasons of conditions or of
	// sessions, or of the refusal.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says why a use was refused.
	// +optional
	Message string `json:"message,omitempty"`
	// connection that was used, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
	// acquired is how the use got its connection: Warm, Queued or Dialed.
	// +optional
	Acquired Acquired `json:"acquired,omitempty"`
	// acquireMicroseconds is how long the use waited for its connection.
	// +optional
	AcquireMicroseconds int64 `json:"acquireMicroseconds,omitempty"`
	// session that the use is, or in which its command runs.
	// +optional
	Session string `json:"session,omitempty"`
	// container in which the use runs.
	// +optional
	Container string `json:"container,omitempty"`
	// pod in which the use runs.
	// +optional
	Pod string `json:"pod,omitempty"`
	// podNamespace is the namespace of that pod.
	// +optional
	PodNamespace string `json:"podNamespace,omitempty"`
	// command holds the words of the command, or only the beginning if they are long.
	// Absent unless the operator runs with --audit-commands.
	// +optional
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// method of a proxied request.
	// +optional
	Method string `json:"method,omitempty"`
	// path of a proxied request without its query, or only the beginning if it is long.
	// +optional
	Path string `json:"path,omitempty"`
	// host to which a port-forward leads. Absent for the target itself.
	// +optional
	Host string `json:"host,omitempty"`
	// socket to which a port-forward leads.
	// +optional
	Socket string `json:"socket,omitempty"`
	// bytesIn is how much went to the target, so far if the use still runs.
	// +optional
	BytesIn int64 `json:"bytesIn,omitempty"`
	// bytesOut is how much came from the target, so far if the use still runs.
	// +optional
	BytesOut int64 `json:"bytesOut,omitempty"`
	// transport is how the request came: json, websocket, spdy or http.
	// +optional
	Transport string `json:"transport,omitempty"`
	// requestID of the use in the operator's audit lines.
	// +optional
	RequestID string `json:"requestID,omitempty"`
	// replica of the operator that served the use.
	// +optional
	Replica string `json:"replica,omitempty"`
}

// UseList is a list of uses, the newest first.
//
// +kubebuilder:object:root=true
type UseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Use `json:"items"`
}

// Fields by which uses can be selected, besides FieldPool, FieldTarget, FieldState,
// metadata.name and metadata.namespace.
const (
	FieldUser    = "user"
	FieldAction  = "action"
	FieldOutcome = "outcome"
)

// Result says in a few words how the use ended, or that it runs: "running", "exit 0",
// "status 200", "ended: Idle", "not started: PoolExhausted".
func (u *Use) Result() string {
	switch {
	case u.State == UseRunning:
		return "running"
	case u.State == UseRefused:
		return with("refused", cmp.Or(u.Reason, strconv.Itoa(int(u.HTTPStatus))))
	case u.HTTPStatus != 0:
		return with(fmt.Sprintf("status %d", u.HTTPStatus), u.Reason)
	case u.ExitCode != nil:
		return fmt.Sprintf("exit %d", *u.ExitCode)
	case u.Outcome == OutcomeNotStarted:
		return with("not started", u.Reason)
	case u.Outcome == OutcomeUnknown:
		return with("unknown", u.Reason)
	}
	return with("ended", u.Reason)
}

func with(word, reason string) string {
	if reason == "" {
		return word
	}
	return word + ": " + reason
}
