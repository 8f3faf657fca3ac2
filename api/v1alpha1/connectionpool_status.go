package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PoolType is the protocol of a pool's targets, or mixed.
//
// +kubebuilder:validation:Enum=ssh;docker;kubernetes;mixed
type PoolType string

// PoolTypeMixed is the type of a pool whose targets differ in protocol. Other
// pools have the TargetType of their targets.
const PoolTypeMixed PoolType = "mixed"

// ConnectionPoolStatus is what the operator has observed of a pool: the sum of its
// targets' statuses. The operator writes it by server-side apply: at once when a
// condition changes, within seconds when the number of ready or failing targets
// changes or once connections have settled, and otherwise at most every 40 seconds and
// only if something changed. The live API has what changes every second.
//
// +kubebuilder:validation:MinProperties=1
type ConnectionPoolStatus struct {
	// observedGeneration is the metadata.generation that the status is about. It is
	// -1 until the operator has seen the pool. That tells kstatus that a new object is
	// still in progress.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, from the first write of the status, and, only while they
	// are true, Degraded, Reconciling and Stalled. Stalled means that only a change
	// by a person helps.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// summary is the reason of Ready, and after commas what else is wrong: the reason of
	// Stalled, and the reasons of failing targets that only a change by a person cures,
	// at most 3, or TargetsFailing for others. It is for people; programs read the
	// conditions. Absent until the operator has seen the pool.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Summary *string `json:"summary,omitempty"`

	// type is the protocol of the pool's targets, or mixed. Absent while the pool
	// has no target.
	// +optional
	Type *PoolType `json:"type,omitempty"`

	// targets counts the pool's targets. Absent until the operator has seen the
	// pool.
	// +optional
	Targets TargetCounts `json:"targets,omitzero"`

	// connections counts the pool's connections to all targets. Absent until the
	// operator has seen the pool.
	// +optional
	Connections PoolConnectionCounts `json:"connections,omitzero"`

	// useCount is how many uses of connections have ended since the pool was created,
	// including those to targets that have left it. It may miss the last ones before a
	// target left or an operator ended. Absent until the operator has seen the pool.
	// +optional
	// +kubebuilder:validation:Minimum=0
	UseCount *int64 `json:"useCount,omitempty"`

	// oldestConnectionTime is when the oldest warm connection was made. Absent while
	// there is none. It may be up to a day behind.
	// +optional
	OldestConnectionTime *metav1.Time `json:"oldestConnectionTime,omitempty"`

	// lastUsedTime is when a use of a connection last ended. Absent until the first
	// use has ended.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`

	// failingTargets are the targets that fail, at most 10: they lack their warm
	// connections because of a failure, or serve with connections that could not be made
	// again now. Those that have failed longest come first. Absent when no target fails.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	FailingTargets []FailingTarget `json:"failingTargets,omitempty"`

	// selector selects no pods, since a pool's connections are not pods. The scale
	// subresource has this field, because a HorizontalPodAutoscaler refuses to work
	// without one. Absent until the operator has seen the pool.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Selector *string `json:"selector,omitempty"`
}

// TargetCounts counts targets.
//
// +kubebuilder:validation:MinProperties=1
type TargetCounts struct {
	// total is how many targets the pool has. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Total *int32 `json:"total,omitempty"`

	// ready is how many of them serve: they have the warm connections that size.minWarm
	// asks for, or had them and still have some. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Ready *int32 `json:"ready,omitempty"`

	// failing is how many of them fail, including those that still serve: the length that
	// failingTargets would have without a bound. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failing *int32 `json:"failing,omitempty"`
}

// PoolConnectionCounts counts a pool's connections by what they do.
//
// +kubebuilder:validation:MinProperties=1
type PoolConnectionCounts struct {
	// warm is how many connections can serve: idle or in use. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Warm *int32 `json:"warm,omitempty"`

	// inUse is how many of the warm connections carry at least one use now. Absent
	// means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	InUse *int32 `json:"inUse,omitempty"`

	// dialing is how many connections are being made. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Dialing *int32 `json:"dialing,omitempty"`

	// draining is how many connections take no new use and close after the last
	// one. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Draining *int32 `json:"draining,omitempty"`

	// desired is how many warm connections the pool wants now. Schedules count.
	// Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Desired *int32 `json:"desired,omitempty"`

	// warmPerTarget is how many warm connections a target has on average, rounded, in
	// the unit of size.minWarm. It is the number of replicas in the scale subresource.
	// Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	WarmPerTarget *int32 `json:"warmPerTarget,omitempty"`
}

// FailingTarget is a target that lacks the warm connections that the pool wants because
// of a failure, or that serves with connections that could not be made again now.
type FailingTarget struct {
	// name is the name of the target.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// reason classifies the failure, as in the target's conditions.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`

	// since is when the target's condition Ready became False or, while the target still
	// serves, when the condition with the reason got its status. Absent means unknown.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// serving is true while the target nevertheless serves with the connections that it
	// has. Absent when it does not.
	// +optional
	Serving *bool `json:"serving,omitempty"`
}
