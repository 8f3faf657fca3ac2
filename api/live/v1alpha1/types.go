package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConnectionState is where a connection is in its life.
type ConnectionState string

const (
	// ConnectionIdle serves and carries no use.
	ConnectionIdle ConnectionState = "Idle"
	// ConnectionInUse serves and carries at least one use.
	ConnectionInUse ConnectionState = "InUse"
	// ConnectionDraining takes no new use and closes after the last one.
	ConnectionDraining ConnectionState = "Draining"
)

// Connection is one connection, warm or draining, as it is now. Its labels are
// those of its target. Its creation time is when the connection was made.
//
// +kubebuilder:object:root=true
type Connection struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// pool that the connection belongs to.
	Pool string `json:"pool"`
	// target that the connection leads to.
	Target string `json:"target"`
	// type of the target: ssh, docker or kubernetes.
	Type string `json:"type"`
	// state is Idle, InUse or Draining.
	State ConnectionState `json:"state"`
	// inUse is how many uses run on the connection now.
	InUse int32 `json:"inUse"`
	// useCount is how many uses of the connection have ended.
	UseCount int64 `json:"useCount"`
	// lastUsedTime is when the last use ended. Absent before the first one ended.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
	// roundTripMicroseconds is how long the newest keepalive took to be answered.
	// Absent before the first one.
	// +optional
	RoundTripMicroseconds int64 `json:"roundTripMicroseconds,omitempty"`
	// handshakeMicroseconds is how long it took to make the connection. Each use saves
	// that time.
	// +optional
	HandshakeMicroseconds int64 `json:"handshakeMicroseconds,omitempty"`
	// remoteAddress is the IP address and the port that the connection leads to.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
	// serverVersion is what the server calls itself.
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
	// counts are the figures of pools at the time of the list, by target. They include
	// connections that are being dialed, which are not items. Only the first page of a
	// list has them, and only if no connection is selected by its state or its name.
	// +optional
	// +listType=atomic
	Counts []ConnectionCounts `json:"counts,omitempty"`
}

// ConnectionCounts counts a pool's connections to one of its targets by what they do.
type ConnectionCounts struct {
	// namespace of the pool and the target.
	Namespace string `json:"namespace"`
	// pool that the connections belong to.
	Pool string `json:"pool"`
	// target that they lead to. Absent for targets that have left the pool: their
	// connections drain, and their uses still count.
	// +optional
	Target string `json:"target,omitempty"`
	// desired is how many connections the pool wants to keep warm now. Schedules count.
	Desired int32 `json:"desired"`
	// warm is how many connections can serve: idle or in use.
	Warm int32 `json:"warm"`
	// inUse is how many of the warm connections carry at least one use.
	InUse int32 `json:"inUse"`
	// dialing is how many connections are being made.
	Dialing int32 `json:"dialing"`
	// draining is how many connections take no new use and close after the last one.
	Draining int32 `json:"draining"`
	// useCount is how many uses have ended since this replica of the operator took over
	// the target, also on connections that are closed.
	UseCount int64 `json:"useCount"`
	// oldestConnectionTime is when the oldest warm connection was made. Absent while
	// there is none.
	// +optional
	OldestConnectionTime *metav1.Time `json:"oldestConnectionTime,omitempty"`
	// lastUsedTime is when a use last ended. Absent before the first one ended.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
}

// Fields by which connections and sessions can be selected, besides metadata.name
// and metadata.namespace. Sessions cannot be selected by type.
const (
	FieldPool   = "pool"
	FieldTarget = "target"
	FieldType   = "type"
	FieldState  = "state"
)

// Drain replaces connections with new ones and closes each old one after its last use.
// A client asks for it with an empty object.
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
	// connections is how many connections this drain replaces. For a pool, those that
	// are being replaced already do not count. For one connection it is 1, or 0 if the
	// connection takes no more uses.
	Connections int32 `json:"connections"`
}

// Check dials a target once, independently of its pools, and reports each stage. If it
// succeeds, pools that had stopped dialing the target dial it again. A client asks for
// it with an empty object.
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
	// ready says whether every stage passed.
	Ready bool `json:"ready"`
	// stages of the check in their order. If the check is not ready, the last one
	// failed.
	// +optional
	// +listType=atomic
	Stages []CheckStage `json:"stages,omitempty"`
	// serverVersion is what the server calls itself. Absent if the check ended before.
	// +optional
	ServerVersion string `json:"serverVersion,omitempty"`
	// remoteAddress is the IP address and the port that were dialed. Absent if the
	// check ended before.
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`
}

// CheckStage is one stage of a check.
type CheckStage struct {
	// name of the stage: credentials, resolve, connect, then banner, key exchange and
	// host key for ssh targets or TLS for others, then authentication and session.
	Name string `json:"name"`
	// passed says whether the stage succeeded.
	Passed bool `json:"passed"`
	// durationMicroseconds is how long the stage took.
	DurationMicroseconds int64 `json:"durationMicroseconds"`
	// reason classifies a failure, as in conditions.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says what was found, and for a failure the next step.
	// +optional
	Message string `json:"message,omitempty"`
}
