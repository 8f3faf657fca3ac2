package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of a session. A request beyond them is refused with 400.
const (
	// DefaultSessionTTLSeconds is how long a session lives that does not say.
	DefaultSessionTTLSeconds = 3600
	// MaxSessionTTLSeconds is how long any session may live.
	MaxSessionTTLSeconds = 24 * 3600
	// DefaultSessionIdleTimeoutSeconds ends a session that does not say and has run
	// no command for so long.
	DefaultSessionIdleTimeoutSeconds = 600
)

// SessionState is where a session is in its life.
type SessionState string

const (
	// SessionReady waits for a command.
	SessionReady SessionState = "Ready"
	// SessionBusy runs one; others wait for their turn.
	SessionBusy SessionState = "Busy"
	// SessionEnded runs nothing any more; its reason says why.
	SessionEnded SessionState = "Ended"
)

// Session is a shell that stays: on a host, in a container or in a pod. Commands
// that are sent to it run one after the other and keep its directory, its
// environment and its functions; each returns its own output and exit code, and
// has an empty standard input. It holds a use of one connection until it ends.
// Only its creator may use it.
//
// +kubebuilder:object:root=true
type Session struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SessionSpec `json:"spec"`
	// status is what it is doing, or why it ended.
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
	// pool whose connection it uses. Whoever creates or uses a session needs the
	// verb create on the pool's exec, too.
	Pool string `json:"pool"`
	// target of the pool; as in ExecSpec.
	// +optional
	Target string `json:"target,omitempty"`
	// container that it runs in: required on docker targets, by name or ID; a container of
	// the pod on kubernetes targets, absent for its default or only one; refused on
	// ssh targets.
	// +optional
	Container string `json:"container,omitempty"`
	// pod that it runs in: required on kubernetes targets, refused on others.
	// +optional
	Pod string `json:"pod,omitempty"`
	// namespace of the pod; that of the target when absent. Refused without pod.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// env is given to the shell; as in ExecSpec.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// ttlSeconds after which it ends, whatever it does. 3600 when 0 or absent; at
	// most 86400.
	// +optional
	TTLSeconds int32 `json:"ttlSeconds,omitempty"`
	// idleTimeoutSeconds without a command after which it ends. 600 when 0 or
	// absent; at most 86400.
	// +optional
	IdleTimeoutSeconds int32 `json:"idleTimeoutSeconds,omitempty"`
}

// SessionStatus is what a session is doing.
type SessionStatus struct {
	// state is Ready, Busy or Ended. One that ended is still listed for 10 minutes.
	State SessionState `json:"state"`
	// reason of its end: the same words as in conditions, or Exited, Deleted,
	// Expired, Idle, PermissionRevoked or ShuttingDown.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says why it ended, and the next step.
	// +optional
	Message string `json:"message,omitempty"`
	// owner is who created it, and who alone may use it.
	// +optional
	Owner string `json:"owner,omitempty"`
	// target on which it runs.
	// +optional
	Target string `json:"target,omitempty"`
	// connection over which it runs, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
	// commandCount is how many commands have been run in it.
	CommandCount int64 `json:"commandCount"`
	// lastUsedTime is when a command ended last; absent before the first.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
	// expirationTime is when ttlSeconds are over.
	// +optional
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`
}
