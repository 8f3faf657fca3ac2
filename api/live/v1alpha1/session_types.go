package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of a session. A request beyond them is refused with 400.
const (
	// DefaultSessionTTLSeconds is how long a session lives that sets no ttlSeconds.
	DefaultSessionTTLSeconds = 3600
	// MaxSessionTTLSeconds is the longest life of a session.
	MaxSessionTTLSeconds = 24 * 3600
	// DefaultSessionIdleTimeoutSeconds is how long a session that sets no
	// idleTimeoutSeconds may run no command before it is ended.
	DefaultSessionIdleTimeoutSeconds = 600
)

// SessionState is where a session is in its life.
type SessionState string

const (
	// SessionReady waits for a command.
	SessionReady SessionState = "Ready"
	// SessionBusy runs a command, and other commands wait for their turn.
	SessionBusy SessionState = "Busy"
	// SessionEnded runs no more commands, and its reason says why.
	SessionEnded SessionState = "Ended"
)

// Session is a shell that stays open, on a host, in a container or in a pod. Commands
// that are sent to it run one after the other and share its directory, its environment
// and its functions. Each has an empty standard input and returns its own output and
// exit code. The session is one use of a connection until it ends. Only its creator
// may use it.
//
// +kubebuilder:object:root=true
type Session struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SessionSpec `json:"spec"`
	// status is what the session is doing, or why it ended.
	// +optional
	Status SessionStatus `json:"status,omitempty"`
}

// SessionList is a list of sessions.
//
// +kubebuilder:object:root=true
type SessionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Session `json:"items"`
}

// SessionSpec says where the shell runs, and for how long.
type SessionSpec struct {
	// pool whose connection the session uses. A user who creates or uses a session
	// also needs the verb create on the pool's exec.
	Pool string `json:"pool"`
	// target of the pool, as in ExecSpec.
	// +optional
	Target string `json:"target,omitempty"`
	// container that the shell runs in. On docker targets, its name or ID; absent means
	// the only container that runs there. On kubernetes targets, a container of the pod;
	// absent means the pod's default or only container. Refused on ssh targets.
	// +optional
	Container string `json:"container,omitempty"`
	// pod that the shell runs in. Required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod. Absent means the target's defaultNamespace. Refused
	// without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// env is the environment of the shell, as in ExecSpec.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// ttlSeconds is the number of seconds after which the session ends, even if it is in
	// use. At most 86400. Absent or 0 means 3600.
	// +optional
	TTLSeconds int32 `json:"ttlSeconds,omitempty"`
	// idleTimeoutSeconds is the number of seconds without a command after which the
	// session ends. At most 86400. Absent or 0 means 600.
	// +optional
	IdleTimeoutSeconds int32 `json:"idleTimeoutSeconds,omitempty"`
}

// SessionStatus is what a session is doing.
type SessionStatus struct {
	// state is Ready, Busy or Ended. A session that ended is listed for 10 more
	// minutes.
	State SessionState `json:"state"`
	// reason of the end of the session: one of the reasons of conditions, or Exited,
	// Deleted, Expired, Idle, PermissionRevoked or ShuttingDown. Absent until then.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says why the session ended, and the next step.
	// +optional
	Message string `json:"message,omitempty"`
	// owner is the user who created the session, and the only one who may use it.
	// +optional
	Owner string `json:"owner,omitempty"`
	// target on which the shell runs.
	// +optional
	Target string `json:"target,omitempty"`
	// container in which the shell runs, if the operator chose it because spec names none.
	// +optional
	Container string `json:"container,omitempty"`
	// connection over which the shell runs, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
	// commandCount is how many commands have run in the session.
	CommandCount int64 `json:"commandCount"`
	// lastUsedTime is when the last command ended. Absent before the first one ended.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
	// expirationTime is when ttlSeconds are over and the session ends.
	// +optional
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`
}
