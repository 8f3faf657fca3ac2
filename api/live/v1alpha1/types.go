package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConnectionState is where a connection is in its life.
type ConnectionState string

const (
	// ConnectionIdle serves and is used by nobody now.
	ConnectionIdle ConnectionState = "Idle"
	// ConnectionInUse serves and carries at least one use.
	ConnectionInUse ConnectionState = "InUse"
	// ConnectionDraining takes no new use and closes after the last one.
	ConnectionDraining ConnectionState = "Draining"
)

// Connection is one warm connection, as it is now. Its labels are those of its
// target; its creation time is when it was made.
//
// +kubebuilder:object:root=true
type Connection struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// pool that the connection belongs to.
	Pool string `json:"pool"`
	// target that it leads to.
	Target string `json:"target"`
	// type of the target: ssh, docker or kubernetes.
	Type string `json:"type"`
	// state is Idle, InUse or Draining.
	State ConnectionState `json:"state"`
	// inUse is how many uses run on it now.
	InUse int32 `json:"inUse"`
	// useCount is how many uses have ended.
	UseCount int64 `json:"useCount"`
	// lastUsedTime is when a use ended last; absent before the first.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
	// roundTripMicroseconds is the newest round trip of a keepalive; 0 before the
	// first.
	// +optional
	RoundTripMicroseconds int64 `json:"roundTripMicroseconds,omitempty"`
	// handshakeMicroseconds is how long it took to make the connection: what each
	// use saves.
	// +optional
	HandshakeMicroseconds int64 `json:"handshakeMicroseconds,omitempty"`
	// remoteAddress is the resolved IP and port.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
	// serverVersion is what the remote calls itself.
	// +optional
	ServerVersion string `json:"serverVersion,omitempty"`
	// replica of the operator that holds the connection.
	// +optional
	Replica string `json:"replica,omitempty"`
}

// ConnectionList is a list of connections.
//
// +kubebuilder:object:root=true
type ConnectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Connection `json:"items"`
}

// Field selectors of connections and, but for the type, of sessions, besides metadata.name and metadata.namespace.
const (
	FieldPool   = "pool"
	FieldTarget = "target"
	FieldType   = "type"
	FieldState  = "state"
)

// Drain replaces connections by fresh ones and retires each old one when nothing
// uses it any more. An empty object asks for it.
//
// +kubebuilder:object:root=true
type Drain struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what was done.
	// +optional
	Status DrainStatus `json:"status,omitempty"`
}

// DrainStatus is what a Drain did.
type DrainStatus struct {
	// connections that are drained from now on.
	Connections int32 `json:"connections"`
}

// Check dials a target once, beside its pools, and reports stage by stage. A
// check that succeeds also ends the wait of pools that had given up dialing. An
// empty object asks for it.
//
// +kubebuilder:object:root=true
type Check struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what was found.
	// +optional
	Status CheckStatus `json:"status,omitempty"`
}

// CheckStatus is what a Check found.
type CheckStatus struct {
	// ready reports that every stage passed.
	Ready bool `json:"ready"`
	// stages in their order; the last one is where a check that is not ready
	// ended.
	// +optional
	// +listType=atomic
	Stages []CheckStage `json:"stages,omitempty"`
	// serverVersion is what the remote calls itself, if it got so far.
	// +optional
	ServerVersion string `json:"serverVersion,omitempty"`
	// remoteAddress is the resolved IP and port, if it got so far.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
}

// CheckStage is one stage of a check.
type CheckStage struct {
	// name of the stage: credentials, resolve, connect, then for ssh banner, key
	// exchange and host key, for others TLS; authentication, session.
	Name string `json:"name"`
	// passed reports that the stage is done.
	Passed bool `json:"passed"`
	// durationMicroseconds is how long it took.
	DurationMicroseconds int64 `json:"durationMicroseconds"`
	// reason classifies a failure; the same words as in conditions.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says what was found, and for a failure the next step.
	// +optional
	Message string `json:"message,omitempty"`
}
