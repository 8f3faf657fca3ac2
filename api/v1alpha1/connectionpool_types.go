package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConnectionPool tells the operator which targets to keep connections to, how many,
// and by which policy.
//
// Conditions follow kstatus, so that Flux, Argo CD and `kubectl wait` can wait
// for them. Ready is true while the pool serves: at first when every target that does not
// fail has its warm connections, and from then on while at least one target serves.
// Degraded says which targets fail.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.size.minWarm,statuspath=.status.connections.warmPerTarget,selectorpath=.status.selector
// +kubebuilder:resource:shortName=cpool,categories=connpool
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.status.type`,description="Protocol of the pool's targets"
// +kubebuilder:printcolumn:name="Targets",type=integer,JSONPath=`.status.targets.total`,description="Targets of the pool"
// +kubebuilder:printcolumn:name="Ready-Targets",type=integer,JSONPath=`.status.targets.ready`,description="Targets that have their warm connections"
// +kubebuilder:printcolumn:name="Warm",type=integer,JSONPath=`.status.connections.warm`,description="Connections that can serve: idle or in use"
// +kubebuilder:printcolumn:name="In-Use",type=integer,JSONPath=`.status.connections.inUse`,priority=1,description="Warm connections that carried a use when the operator last wrote, up to 40 s ago"
// +kubebuilder:printcolumn:name="Uses",type=integer,JSONPath=`.status.useCount`,description="Uses of connections that have ended"
// +kubebuilder:printcolumn:name="Oldest",type=date,JSONPath=`.status.oldestConnectionTime`,description="Age of the oldest connection"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the pool can serve"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.summary`,description="Why the pool is ready or not, and what else is wrong"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`,description="Time since the pool was created"
type ConnectionPool struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says which connections the operator keeps, and how.
	// +required
	Spec ConnectionPoolSpec `json:"spec,omitzero"`

	// status is what the operator has observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ConnectionPoolStatus `json:"status,omitzero"`
}

// ConnectionPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type ConnectionPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []ConnectionPool `json:"items"`
}

// ConnectionPoolSpec says which connections the operator keeps, and how.
//
// +kubebuilder:validation:XValidation:rule="has(self.targetRef) != has(self.targetSelector)",message="spec needs exactly one of targetRef and targetSelector: name one target, or select several by their labels"
// +kubebuilder:validation:XValidation:rule="!has(self.warming) || !has(self.warming.schedules) || self.warming.schedules.all(s, s.minWarm <= self.size.max)",fieldPath=".warming.schedules",message="warming.schedules must not have a minWarm greater than size.max (4 by default): lower minWarm or raise size.max"
// +kubebuilder:validation:MinProperties=0
type ConnectionPoolSpec struct {
	// targetRef names the one ConnectionTarget of the pool. Absent when
	// targetSelector is used.
	// +optional
	TargetRef *TargetRef `json:"targetRef,omitempty"`

	// targetSelector selects ConnectionTargets of the namespace by their labels. It
	// must not be empty. A target joins or leaves the pool when its labels change.
	// Absent when targetRef is used.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="targetSelector must not be empty, because it would select every target of the namespace: add a label to matchLabels or matchExpressions"
	// +kubebuilder:validation:XValidation:rule="(!has(self.matchLabels) || size(self.matchLabels) <= 16) && (!has(self.matchExpressions) || size(self.matchExpressions) <= 16)",message="targetSelector must not have more than 16 matchLabels or 16 matchExpressions: give the targets one label of their own"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, (e.operator in ['In', 'NotIn'] && has(e.values) && size(e.values) > 0 && size(e.values) <= 64) || (e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0)))",fieldPath=".matchExpressions",message="matchExpressions must have the operator In or NotIn with 1 to 64 values, or Exists or DoesNotExist with none: correct the operator or the values"
	TargetSelector *metav1.LabelSelector `json:"targetSelector,omitempty"`

	// routing says what happens to a request that names no target. ByName refuses it.
	// LeastLoaded gives it to the healthy target with the fewest uses; among equals, to
	// the least recently used one. A pool with targetRef always uses its one target.
	// Defaults to ByName.
	// +optional
	// +kubebuilder:default=ByName
	Routing *PoolRouting `json:"routing,omitempty"`

	// size bounds the number of connections to each target.
	// +optional
	// +kubebuilder:default={}
	Size PoolSize `json:"size,omitzero"`

	// sessionsPerConnection is how many uses may share one connection at the same time. If
	// a server allows fewer, as sshd does by MaxSessions, the operator learns that when
	// the server refuses one. Defaults to 8 for ssh targets, and to 100 for docker and
	// kubernetes targets, whose servers have no such limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	SessionsPerConnection *int32 `json:"sessionsPerConnection,omitempty"`

	// acquire says how requests wait for a connection.
	// +optional
	// +kubebuilder:default={}
	Acquire PoolAcquire `json:"acquire,omitzero"`

	// lifecycle says when connections are replaced and closed. A running use is
	// never cut because its connection is old.
	// +optional
	// +kubebuilder:default={}
	Lifecycle PoolLifecycle `json:"lifecycle,omitzero"`

	// health says how the operator checks connections, and when a target counts as
	// failed.
	// +optional
	// +kubebuilder:default={}
	Health PoolHealth `json:"health,omitzero"`

	// warming raises the number of warm connections before they are needed.
	// Absent means that size.minWarm holds at all times.
	// +optional
	Warming PoolWarming `json:"warming,omitzero"`

	// state says whether the pool serves. An Active pool serves. A Paused pool refuses new
	// uses, lets running ones finish, and closes each connection when its last use has
	// ended. Defaults to Active.
	// +optional
	// +kubebuilder:default=Active
	State *PoolState `json:"state,omitempty"`
}

// PoolRouting says what the operator does with a request that names no target.
//
// +kubebuilder:validation:Enum=ByName;LeastLoaded
type PoolRouting string

// The ways to route.
const (
	// RoutingByName refuses a request that names no target.
	RoutingByName PoolRouting = "ByName"
	// RoutingLeastLoaded gives it to the healthy target with the fewest uses, among equals
	// to the least recently used.
	RoutingLeastLoaded PoolRouting = "LeastLoaded"
)

// PoolState says whether a pool serves.
//
// +kubebuilder:validation:Enum=Active;Paused
type PoolState string

// The states that a user may ask for.
const (
	// PoolActive serves.
	PoolActive PoolState = "Active"
	// PoolPaused refuses new uses and lets running ones finish.
	PoolPaused PoolState = "Paused"
)

// size.minWarm, size.max, acquire.maxPending and sessionsPerConnection of a pool that does
// not set them. sshd allows 10 sessions by default, of which one is opened ahead. An engine
// or API server has no limit on a connection, so long streams, such as logs that are
// followed, must not use it up.
const (
	DefaultMinWarm                   = 1
	DefaultMaxConnections            = 4
	DefaultMaxPending                = 100
	DefaultSessionsPerSSHConnection  = 8
	DefaultSessionsPerHTTPConnection = 100
)

// SessionsOn returns how many uses may share one connection to a target of the type.
func (s *ConnectionPoolSpec) SessionsOn(target TargetType) int32 {
	switch {
	case s.SessionsPerConnection != nil:
		return *s.SessionsPerConnection
	case target == TargetTypeSSH:
		return DefaultSessionsPerSSHConnection
	}
	return DefaultSessionsPerHTTPConnection
}

// PoolSize bounds the number of connections to each target.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minWarm) || !has(self.max) || self.minWarm <= self.max",fieldPath=".minWarm",message="minWarm must not be greater than max (4 by default): lower minWarm or raise max"
// +kubebuilder:validation:MinProperties=0
type PoolSize struct {
	// minWarm is how many connections to each target are kept warm. 0 means that the
	// operator dials on demand. Defaults to 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinWarm *int32 `json:"minWarm,omitempty"`

	// max is how many connections to each target there may be, including those being
	// dialed. While connections are being replaced, up to as many more may be draining.
	// Defaults to 4.
	// +optional
	// +kubebuilder:default=4
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Max *int32 `json:"max,omitempty"`
}

// PoolAcquire says how requests wait for a connection.
//
// +kubebuilder:validation:MinProperties=0
type PoolAcquire struct {
	// timeoutSeconds is how long a request waits for a connection, in seconds. Then it
	// fails without having started. Defaults to 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=600
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// maxPending is how many requests may wait for each target. Further requests fail at
	// once, but for one of a user with fewer of them: for that, the latest of the user with
	// most of them fails. 0 means that no request waits, not even for a connection that is
	// being dialed. Defaults to 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MaxPending *int32 `json:"maxPending,omitempty"`
}

// PoolLifecycle says when connections are replaced and closed.
//
// +kubebuilder:validation:MinProperties=0
type PoolLifecycle struct {
	// maxAgeSeconds is the age in seconds, less up to a tenth at random, at which a
	// connection is replaced. The operator first makes the successor and then drains the
	// old connection. 0 means never. Defaults to 3600.
	// +optional
	// +kubebuilder:default=3600
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	MaxAgeSeconds *int32 `json:"maxAgeSeconds,omitempty"`

	// maxIdleSeconds is how long, in seconds, a connection beyond the warm minimum may be
	// idle before it is closed. 0 means forever. Defaults to 300.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2592000
	MaxIdleSeconds *int32 `json:"maxIdleSeconds,omitempty"`

	// maxUses is the number of uses after which a connection is replaced. 0 means never.
	// Defaults to 0.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	MaxUses *int32 `json:"maxUses,omitempty"`

	// drainTimeoutSeconds is how long, in seconds, running uses may go on after the target
	// was changed to another server or account, or after its server failed to prove any of
	// the newly pinned host keys. Then they are cut. If the pool, the target or its Secret
	// is deleted, or the pool no longer selects the target, they are cut after 30 seconds
	// at the latest. Defaults to 300.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	DrainTimeoutSeconds *int32 `json:"drainTimeoutSeconds,omitempty"`
}

// PoolHealth says how the operator checks connections and targets.
//
// +kubebuilder:validation:XValidation:rule="!has(self.timeoutSeconds) || !has(self.periodSeconds) || self.timeoutSeconds < self.periodSeconds",fieldPath=".timeoutSeconds",message="timeoutSeconds (5 by default) must be less than periodSeconds (60 by default), so that one probe ends before the next: lower timeoutSeconds or raise periodSeconds"
// +kubebuilder:validation:MinProperties=0
type PoolHealth struct {
	// keepaliveSeconds is how often, in seconds, the server must answer on each
	// connection, idle or in use. A connection without an answer within timeoutSeconds is
	// closed and replaced, unless other bytes still arrive on it. 0 turns keepalives off.
	// Defaults to 15.
	// +optional
	// +kubebuilder:default=15
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	KeepaliveSeconds *int32 `json:"keepaliveSeconds,omitempty"`

	// periodSeconds is how often, in seconds, each connection is probed. While a target
	// counts as failed, its connections are probed every second. Defaults to 60.
	// +optional
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=86400
	PeriodSeconds *int32 `json:"periodSeconds,omitempty"`

	// timeoutSeconds is how long, in seconds, a probe or a keepalive may take. It must be
	// less than periodSeconds. Defaults to 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=300
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// failureThreshold is the number of consecutive failures after which a target counts
	// as failed: failed probes, failed dials, or connections that are lost soon after they
	// were made. A failure that only a change can cure counts at once. Defaults to 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	FailureThreshold *int32 `json:"failureThreshold,omitempty"`

	// successThreshold is the number of consecutive successes after which a failed target
	// counts as healthy again: one successful dial, which is required, and successful
	// probes. Each time the target fails again soon after, it needs twice as many, up to
	// 16 times as many, so that a flapping target stays failed. Defaults to 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold *int32 `json:"successThreshold,omitempty"`

	// command is a program and its arguments, which the operator runs on ssh targets
	// after the probe of the protocol, at most once every periodSeconds on each
	// connection. It must exit with 0. It may run at any time, so it must change
	// nothing. Absent means that only the protocol is probed, which costs the target
	// less. A user who sets or changes it, or chooses other targets for a pool that has
	// one, needs the verb create on the pool's exec in the live API.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=0
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self[0] != ''`,message="command must begin with the name of a program: write one, or remove command for a probe of the protocol"
	// +kubebuilder:validation:XValidation:rule=`!self.exists(a, a.matches(r'\x00'))`,message="command must not contain NUL characters: remove them"
	Command []string `json:"command,omitempty"`
}

// PoolWarming raises the number of warm connections before they are needed.
//
// +kubebuilder:validation:MinProperties=1
type PoolWarming struct {
	// schedules are times with a higher warm minimum. While several apply, the highest
	// minimum counts. Absent means that there are none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Schedules []WarmingSchedule `json:"schedules,omitempty"`

	// prediction learns from use when connections will be needed. Absent means Off.
	// +optional
	Prediction WarmingPrediction `json:"prediction,omitzero"`
}

// WarmingSchedule is a recurring time with a higher warm minimum.
//
// +kubebuilder:validation:XValidation:rule="self.start != self.end",fieldPath=".end",message="end must differ from start: write when the warm minimum goes back to size.minWarm"
type WarmingSchedule struct {
	// name distinguishes the schedule from the others of the pool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')`,message="name must consist of lower-case letters, digits and -: correct the spelling"
	Name string `json:"name,omitempty"`

	// start is when the higher minimum begins, as cron's five fields: minute, hour,
	// day of month, month, day of week (0 to 6, Sunday is 0), such as "0 8 * * 1-5".
	// +required
	Start CronExpression `json:"start,omitempty"`

	// end is when the higher minimum ends, like start.
	// +required
	End CronExpression `json:"end,omitempty"`

	// timeZone is the IANA name of the time zone of start and end, such as Europe/Zurich,
	// whose daylight saving time is honored. Absent means UTC; the API server does not fill
	// it in, because a value that it writes into a list would differ from Git for ever.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self != 'Local' && self.matches(r'^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0`,message="timeZone must be an IANA name such as Europe/Zurich or UTC, not an offset or Local, which do not say where: look it up in the tz database"
	TimeZone *string `json:"timeZone,omitempty"`

	// minWarm is how many connections to each target are kept warm while the
	// schedule holds. It must not be greater than size.max.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinWarm int32 `json:"minWarm,omitempty"`
}

// CronExpression is a recurring time, as cron's five fields.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=80
// +kubebuilder:validation:XValidation:rule="self.split(' ').size() == 5",message="must be five cron fields",messageExpression=`self.matches(r'^(CRON_)?TZ=') ? 'must not contain a time zone: move it to timeZone' : self.startsWith('@') ? 'must not be a shorthand such as @daily: write the five cron fields' : 'must be five cron fields (minute, hour, day of month, month, day of week) with one space between them, such as 0 8 * * 1-5: correct it'`
// +kubebuilder:validation:XValidation:rule=`self.split(' ').size() != 5 || self.split(' ')[0].split(',').all(i, i.matches(r'^(?i)(\*|[0-5]?[0-9](-[0-5]?[0-9])?)(/[1-9][0-9]?)?$'))`,message="the minute (field 1) must be *, a number from 0 to 59, a range, a step or a list of them: correct it"
// +kubebuilder:validation:XValidation:rule=`self.split(' ').size() != 5 || self.split(' ')[1].split(',').all(i, i.matches(r'^(?i)(\*|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3]))?)(/[1-9][0-9]?)?$'))`,message="the hour (field 2) must be *, a number from 0 to 23, a range, a step or a list of them: correct it"
// +kubebuilder:validation:XValidation:rule=`self.split(' ').size() != 5 || self.split(' ')[2].split(',').all(i, i.matches(r'^(?i)(\*|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01]))?)(/[1-9][0-9]?)?$'))`,message="the day of month (field 3) must be *, a number from 1 to 31, a range, a step or a list of them: correct it"
// +kubebuilder:validation:XValidation:rule=`self.split(' ').size() != 5 || self.split(' ')[3].split(',').all(i, i.matches(r'^(?i)(\*|(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/[1-9][0-9]?)?$'))`,message="the month (field 4) must be *, a number from 1 to 12, a range, a step or a list of them: correct it"
// +kubebuilder:validation:XValidation:rule=`self.split(' ').size() != 5 || self.split(' ')[4].split(',').all(i, i.matches(r'^(?i)(\*|([0-6]|sun|mon|tue|wed|thu|fri|sat)(-([0-6]|sun|mon|tue|wed|thu|fri|sat))?)(/[1-9][0-9]?)?$'))`,message="the day of week (field 5) must be *, a number from 0 (Sunday) to 6, a range, a step or a list of them: correct it"
type CronExpression string

// WarmingPrediction learns from use when connections will be needed.
//
// +kubebuilder:validation:MinProperties=1
type WarmingPrediction struct {
	// mode says what the operator does with predictions. Off makes none. Shadow makes and
	// measures them without dialing. Active warms connections according to them. This
	// version refuses all modes but Off. Defaults to Off.
	// +optional
	// +kubebuilder:default=Off
	// +kubebuilder:validation:XValidation:rule="self == 'Off'",message="mode must be Off, because this version makes no predictions yet: remove it, or use warming.schedules"
	Mode *PredictionMode `json:"mode,omitempty"`

	// maxWarm is how many connections predictions may add to all targets of the pool
	// together. Defaults to 50.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxWarm *int32 `json:"maxWarm,omitempty"`
}

// PredictionMode says what the operator does with predictions.
//
// +kubebuilder:validation:Enum=Off;Shadow;Active
type PredictionMode string

// The modes of prediction.
const (
	// PredictionOff makes no predictions.
	PredictionOff PredictionMode = "Off"
	// PredictionShadow makes and measures them without dialing.
	PredictionShadow PredictionMode = "Shadow"
	// PredictionActive warms connections by them.
	PredictionActive PredictionMode = "Active"
)
