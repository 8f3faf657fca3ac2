package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ListingOf is what a Listing lists.
type ListingOf string

const (
	// ListTargets lists the targets of the pool.
	ListTargets ListingOf = "Targets"
	// ListContainers lists the containers of a Docker engine.
	ListContainers ListingOf = "Containers"
	// ListPods lists pods of a cluster.
	ListPods ListingOf = "Pods"
)

// Bounds of a Listing.
const (
	// DefaultListingLimit is how many entries a Listing returns that sets no limit.
	DefaultListingLimit = 500
	// MaxListingLimit is the largest limit. A request beyond it is refused with 400.
	MaxListingLimit = 1000
	// MaxListingBytes bounds the words of all entries together. What is beyond it is left
	// out, and truncated is true.
	MaxListingBytes = 512 << 10
)

// Listing lists what a command through a pool can name: the targets of the pool, the
// containers of a Docker engine, or the pods of a cluster. It is sent to the pool's
// exec, and needs the same permission. Containers and pods are read over a warm
// connection with the pool's credentials, so a list that those credentials may not
// read is refused.
//
// +kubebuilder:object:root=true
type Listing struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ListingSpec `json:"spec"`
	// status is what was found.
	// +optional
	Status ListingStatus `json:"status,omitempty"`
}

// ListingSpec is what to list.
type ListingSpec struct {
	// of is Targets, Containers or Pods. Containers needs a docker target, and Pods a
	// kubernetes target.
	Of ListingOf `json:"of"`
	// target of the pool whose containers or pods are listed, as in ExecSpec. Refused for
	// Targets.
	// +optional
	Target string `json:"target,omitempty"`
	// namespace of the pods. Absent means the target's defaultNamespace. Refused for
	// others.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// allNamespaces lists the pods of all namespaces. Refused for others, and with
	// namespace.
	// +optional
	AllNamespaces bool `json:"allNamespaces,omitempty"`
	// selector selects pods or targets by their labels, such as app=web,tier!=test. Absent
	// means all. Refused for Containers.
	// +optional
	Selector string `json:"selector,omitempty"`
	// all says whether to list containers and pods that do not run, too. Absent means only
	// those that run. Targets are always listed.
	// +optional
	All bool `json:"all,omitempty"`
	// limit is how many entries to return at most, up to 1000. Absent or 0 means 500.
	// +optional
	Limit int32 `json:"limit,omitempty"`
}

// ListingStatus is what was found. It has one of the lists, which is empty if there is
// nothing.
type ListingStatus struct {
	// targets of the pool, by name.
	// +optional
	// +listType=atomic
	Targets []ListedTarget `json:"targets,omitempty"`
	// containers of the engine, by name.
	// +optional
	// +listType=atomic
	Containers []ListedContainer `json:"containers,omitempty"`
	// pods of the cluster, by namespace and name.
	// +optional
	// +listType=atomic
	Pods []ListedPod `json:"pods,omitempty"`
	// truncated says whether there are more than limit, or more than 512 KiB of words.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
	// target whose containers or pods these are.
	// +optional
	Target string `json:"target,omitempty"`
	// connection over which they were read, by its name in this API.
	// +optional
	Connection string `json:"connection,omitempty"`
}

// ListedTarget is a target of a pool.
type ListedTarget struct {
	// name of the target.
	Name string `json:"name"`
	// type of the target: ssh, docker or kubernetes.
	Type string `json:"type"`
	// ready says whether the condition Ready of the target is True.
	Ready bool `json:"ready"`
	// reason of that condition, if it is not True.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ListedContainer is a container of a Docker engine.
type ListedContainer struct {
	// name of the container, without the slash that engines write before it.
	Name string `json:"name"`
	// id of the container, in full.
	// +optional
	ID string `json:"id,omitempty"`
	// image that it was made from.
	// +optional
	Image string `json:"image,omitempty"`
	// state of the container in one word, such as running, paused or exited.
	// +optional
	State string `json:"state,omitempty"`
	// status is the state and how long it has lasted, in the engine's own words, such as
	// Up 2 hours.
	// +optional
	Status string `json:"status,omitempty"`
	// creationTime is when the container was made.
	// +optional
	CreationTime *metav1.Time `json:"creationTime,omitempty"`
}

// ListedPod is a pod of a cluster.
type ListedPod struct {
	// name of the pod.
	Name string `json:"name"`
	// namespace of the pod.
	Namespace string `json:"namespace"`
	// phase of the pod, such as Running, or Terminating if it is being deleted.
	// +optional
	Phase string `json:"phase,omitempty"`
	// containers of the pod that commands can run in, by name. At most 32.
	// +optional
	// +listType=atomic
	Containers []string `json:"containers,omitempty"`
	// containerCount is how many containers the pod has.
	ContainerCount int32 `json:"containerCount"`
	// readyCount is how many of its containers are ready.
	ReadyCount int32 `json:"readyCount"`
	// node that the pod runs on.
	// +optional
	Node string `json:"node,omitempty"`
	// creationTime is when the pod was made.
	// +optional
	CreationTime *metav1.Time `json:"creationTime,omitempty"`
}
