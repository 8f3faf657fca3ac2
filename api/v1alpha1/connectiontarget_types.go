package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// CredentialsLabel marks a Secret, or a ConfigMap with host keys, that targets
// may use. Its value must be CredentialsLabelValue. Without it, a user who may
// write a ConnectionTarget could use every Secret of the namespace. The operator
// neither lists nor caches objects that lack the label.
const (
	CredentialsLabel      = "connpool.dev/credentials"
	CredentialsLabelValue = "true"
)

// HostsAnnotation of a Secret names the hosts to which its credentials may go, separated
// by commas: names, in which * stands for any characters, addresses, and ranges such as
// 10.0.0.0/8. A name is in no range, whatever it resolves to. The jump hosts on the way
// must be named, too. Without it a user who may write targets can send the credentials
// to a server of their own, and so read a password.
const HostsAnnotation = "connpool.dev/hosts"

// ConnectionTarget is one endpoint and how to authenticate to it. The operator
// dials it only while a ConnectionPool selects it, or selects a target whose jump
// host it is.
//
// Conditions follow kstatus, so that Flux, Argo CD and `kubectl wait` can wait
// for them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ctarget,categories=connpool
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.status.type`,description="Protocol of the target"
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.status.endpoint`,description="Where the target is reached"
// +kubebuilder:printcolumn:name="Warm",type=integer,JSONPath=`.status.connections.warm`,description="Connections that can serve: idle or in use"
// +kubebuilder:printcolumn:name="In-Use",type=integer,JSONPath=`.status.connections.inUse`,priority=1,description="Warm connections that carried a use when the operator last wrote, up to 40 s ago"
// +kubebuilder:printcolumn:name="Uses",type=integer,JSONPath=`.status.useCount`,description="Uses of connections that have ended"
// +kubebuilder:printcolumn:name="Oldest",type=date,JSONPath=`.status.oldestConnectionTime`,description="Age of the oldest connection"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the target serves every pool"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.summary`,description="Why the target is ready or not, and what else is wrong"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`,description="Time since the target was created"
// +kubebuilder:printcolumn:name="Server",type=string,JSONPath=`.status.serverVersion`,priority=1,description="What the server calls itself"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.ssh) || !has(self.spec.ssh.jumpTargetRef) || self.spec.ssh.jumpTargetRef.name != self.metadata.name",fieldPath=".spec.ssh.jumpTargetRef.name",message="jumpTargetRef must not be the target itself: name the ssh target that stands in front of it, or remove jumpTargetRef"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.docker) || !has(self.spec.docker.sshTargetRef) || self.spec.docker.sshTargetRef.name != self.metadata.name",fieldPath=".spec.docker.sshTargetRef.name",message="sshTargetRef must not be the target itself: name an ssh target that runs the Docker engine"
type ConnectionTarget struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says what to connect to.
	// +required
	Spec ConnectionTargetSpec `json:"spec,omitzero"`

	// status is what the operator has observed.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status ConnectionTargetStatus `json:"status,omitzero"`
}

// ConnectionTargetList is a list of targets.
//
// +kubebuilder:object:root=true
type ConnectionTargetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []ConnectionTarget `json:"items"`
}

// ConnectionTargetSpec says what to connect to. Exactly one field is set.
//
// +kubebuilder:validation:XValidation:rule="(has(self.ssh) ? 1 : 0) + (has(self.docker) ? 1 : 0) + (has(self.kubernetes) ? 1 : 0) == 1",message="spec needs exactly one of ssh, docker and kubernetes: keep the one that says how this target is reached"
// +kubebuilder:validation:MinProperties=0
type ConnectionTargetSpec struct {
	// ssh reaches a host over SSH. Absent when the target is of another type.
	// +optional
	SSH *SSHTarget `json:"ssh,omitempty"`

	// docker reaches a Docker engine. Absent when the target is of another type.
	// +optional
	Docker *DockerTarget `json:"docker,omitempty"`

	// kubernetes reaches the API server of a cluster. Absent when the target is of
	// another type.
	// +optional
	Kubernetes *KubernetesTarget `json:"kubernetes,omitempty"`
}

// SSHTarget is a host reached over SSH.
//
// +kubebuilder:validation:XValidation:rule="has(self.hostKeys)",fieldPath=".hostKeys",reason=FieldValueRequired,message="hostKeys is required, because no server is trusted unseen: run kubectl connpool hostkeys against the host, compare the fingerprint with the server's administrator and put the key into hostKeys.knownHosts"
type SSHTarget struct {
	// host is the DNS name or the IP address of the server, without user and port. IPv6
	// addresses are written without brackets. The operator checks the resolved address
	// whenever it dials. It refuses loopback, link-local, multicast and unspecified
	// addresses, among others, unless its flags allow them.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`isIP(self) || (self.matches(r'^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$') && !self.matches(r'(^|\.)(0[xX][0-9A-Fa-f]*|[0-9]+)\.?$'))`,message="host must be a DNS name or an IP address",messageExpression=`self.matches(r'[\s[:cntrl:]]') ? 'host must not contain spaces, line breaks or control characters: write only the DNS name or IP address' : self.contains('://') ? 'host must not be a URL: write only the DNS name or IP address' : self.contains('@') ? 'host must not contain a user: move the part before @ to user' : self.startsWith('-') ? 'host must not start with -: write only the DNS name or IP address' : self.matches(r'^(\[.*\]|[^:]*):[0-9]+$') ? 'host must not contain a port: move the number after the colon to port' : self.startsWith('[') ? 'host must not contain brackets: write the bare IPv6 address' : 'host must be a DNS name or an IP address in its usual form (10.0.0.1, 2001:db8::1, no zone, not IPv4 inside IPv6): correct the spelling'`
	Host string `json:"host,omitempty"`

	// port is the TCP port of the server. Defaults to 22.
	// +optional
	// +kubebuilder:default=22
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// user is the name to log in as.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^[- ]| $|[[:cntrl:]]')`,message="user must not start with -, begin or end with a space, or contain line breaks or control characters: write the login name as the server knows it"
	User string `json:"user,omitempty"`

	// credentialsRef names the Secret to authenticate with. The Secret needs the label
	// connpool.dev/credentials: "true", and its annotation connpool.dev/hosts, if it has
	// one, must name the host and its jump hosts. It holds either ssh-privatekey, as in
	// Secrets of type kubernetes.io/ssh-auth, with optional passphrase and
	// ssh-certificate, or password. When the Secret changes, the operator first proves the
	// new credentials with one connection. Then it replaces the old connections, each
	// after its last use.
	// +required
	CredentialsRef SecretRef `json:"credentialsRef,omitzero"`

	// loginTimeoutSeconds is how long, in seconds, the operator waits for the server's
	// greeting and, after the key exchange, for its answer to the login. Raise it for a
	// server whose logins are slow, because of its DNS or its user directory. A check ends
	// after 30 seconds in any case. Defaults to 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=120
	LoginTimeoutSeconds *int32 `json:"loginTimeoutSeconds,omitempty"`

	// hostKeys says with which keys the server proves its identity. It is required: there
	// is no way to accept any key, and no credential is offered to a server that has not
	// proved its identity.
	// +optional
	HostKeys HostKeys `json:"hostKeys,omitzero"`

	// jumpTargetRef names the ssh target that is the jump host of this one: the
	// operator reaches the host through it. All targets behind a jump host share its
	// connections. There may be up to 3 jump hosts in a chain, without a cycle.
	// Absent means that the operator dials the host itself.
	// +optional
	JumpTargetRef *TargetRef `json:"jumpTargetRef,omitempty"`
}

// The rule for RSA keys reads the base64 of their wire format: the key's name, the
// exponent (65537, or 35 in old keys), then the length of the modulus. A modulus of
// 2048 bits or more has at least 257 bytes, the sign included. The driver checks all
// keys again after parsing them.

// HostKeys says with which keys a server may prove its identity, in the syntax of
// OpenSSH's known_hosts. Exactly one field is set.
//
// +kubebuilder:validation:XValidation:rule="(has(self.knownHosts) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) == 1",message="hostKeys needs exactly one of knownHosts, configMapRef and secretRef, because no server is trusted unseen: run kubectl connpool hostkeys against the host, compare the fingerprint with the server's administrator and put the key into knownHosts"
// +kubebuilder:validation:MinProperties=0
type HostKeys struct {
	// knownHosts are the accepted keys, one in each item. An item is a bare public
	// key ("ssh-ed25519 AAAA..."), which is accepted for this target's host and port,
	// or a known_hosts line with host patterns, hashed names, @cert-authority or
	// @revoked. DSA keys and RSA keys under 2048 bits are refused here, unless they are
	// @revoked. Absent when configMapRef or secretRef is used.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:items:XValidation:rule=`self.contains('PRIVATE KEY') || self.contains('b3BlbnNzaC1rZXktdjE') || (self.matches(r'^\s*((@cert-authority|@revoked)[ \t]+)?([^\s@#][^\s]*[ \t]+)?[a-z][a-z0-9@.-]*[ \t]+AAAA[A-Za-z0-9+/]+={0,2}([ \t][^\r\n]*)?\s*$') && (self.matches(r'^\s*@revoked\s') || (!self.matches(r'(^|\s)ssh-dss\s') && !self.matches(r'AAAAB3NzaC1yc2EAAAA(DAQAB(AAAA|AAABA[A-P])|BIwAA(A[A-P]|AQ[A-D]))'))))`,message="knownHosts items must be public keys or known_hosts lines",messageExpression=`self.matches(r'(^|\s)ssh-dss\s') ? 'knownHosts must not contain DSA keys (ssh-dss), which are too weak: use the ed25519 key of the server, which kubectl connpool hostkeys prints' : self.matches(r'AAAAB3NzaC1yc2EAAAA(DAQAB(AAAA|AAABA[A-P])|BIwAA(A[A-P]|AQ[A-D]))') ? 'knownHosts must not contain RSA keys under 2048 bits, which are too weak: use the ed25519 key of the server, which kubectl connpool hostkeys prints' : 'knownHosts items must be one public key (ssh-ed25519 AAAA...) or one known_hosts line each: copy one that kubectl connpool hostkeys prints, without its # comments'`
	// +kubebuilder:validation:XValidation:rule=`!self.exists(k, k.contains('PRIVATE KEY') || k.contains('b3BlbnNzaC1rZXktdjE'))`,message="knownHosts must not contain a private key: put the server's public key here, and replace the private key, which must count as disclosed"
	KnownHosts []string `json:"knownHosts,omitempty"`

	// configMapRef names the key of a ConfigMap that holds a known_hosts file. Lines
	// that cannot be used are skipped, as ssh does, and named in CredentialsReady. Like
	// a Secret it needs the label connpool.dev/credentials: "true", because the
	// operator reads no object without it. Absent when knownHosts or secretRef is
	// used.
	// +optional
	ConfigMapRef *KeyRef `json:"configMapRef,omitempty"`

	// secretRef names the key of a Secret that holds a known_hosts file. The Secret
	// needs the label connpool.dev/credentials: "true". Absent when knownHosts or
	// configMapRef is used.
	// +optional
	SecretRef *KeyRef `json:"secretRef,omitempty"`
}

// DockerTarget is a Docker engine, reached over its local socket, TLS or SSH.
//
// +kubebuilder:validation:XValidation:rule="!self.endpoint.startsWith('tcp://') || has(self.tlsRef)",fieldPath=".tlsRef",reason=FieldValueRequired,message="tlsRef is required with a tcp endpoint, because an open Docker port gives away root on its host: name a Secret with ca.crt, tls.crt and tls.key"
// +kubebuilder:validation:XValidation:rule="!has(self.tlsRef) || !self.endpoint.startsWith('unix://')",fieldPath=".tlsRef",reason=FieldValueForbidden,message="tlsRef has no meaning with a unix endpoint: remove it, or use a tcp endpoint"
// +kubebuilder:validation:XValidation:rule="!has(self.sshTargetRef) || !self.endpoint.startsWith('tcp://')",fieldPath=".sshTargetRef",reason=FieldValueForbidden,message="sshTargetRef needs a unix endpoint, the engine's socket on that host: write endpoint unix:///var/run/docker.sock, or remove sshTargetRef"
type DockerTarget struct {
	// endpoint is where the engine listens: tcp://HOST:PORT, always with TLS, or
	// unix:///PATH of its socket. With sshTargetRef the path is on that host. Without
	// it, the path is on the operator's own host, and a flag of the operator must
	// allow that.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=300
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$') || (self.matches(r'^unix:///[^\s[:cntrl:]]{1,106}$') && !self.matches(r'/\.\.(/|$)'))`,message="endpoint must be tcp://HOST:PORT or unix:///PATH",messageExpression=`self.startsWith('ssh://') ? 'endpoint must not be ssh://: set sshTargetRef to an ssh target and endpoint to the socket on that host, such as unix:///var/run/docker.sock' : self.matches(r'^https?://') ? 'endpoint must not be a web address: write tcp://HOST:PORT' : self.contains('@') ? 'endpoint must not contain a user: write tcp://HOST:PORT' : self.matches(r'^tcp://[^/]*/') ? 'endpoint must not have a path after the port: write tcp://HOST:PORT' : self.matches(r'^tcp://(\[[^\]]*\]|[^:]*)(:0*)?$') ? 'endpoint needs a port from 1 to 65535: write tcp://HOST:PORT, 2376 being usual' : self.startsWith('unix://') ? 'endpoint must have an absolute path without .. and spaces, at most 107 bytes long, such as unix:///var/run/docker.sock: correct the path' : 'endpoint must be tcp://HOST:PORT with a port from 1 to 65535, or unix:///PATH: correct the spelling'`
	Endpoint string `json:"endpoint,omitempty"`

	// tlsRef names the Secret with ca.crt, tls.crt and tls.key. The Secret needs the
	// label connpool.dev/credentials: "true". Required with tcp://, refused with
	// unix://.
	// +optional
	TLSRef *SecretRef `json:"tlsRef,omitempty"`

	// sshTargetRef names the ssh target through which the operator reaches the engine's
	// socket. That host needs no extra program for it. Absent means that the operator
	// dials the endpoint itself.
	// +optional
	SSHTargetRef *TargetRef `json:"sshTargetRef,omitempty"`
}

// KubernetesTarget is the API server of a cluster.
type KubernetesTarget struct {
	// kubeconfigRef names the key of a Secret that holds a kubeconfig. The Secret needs
	// the label connpool.dev/credentials: "true". The operator uses only credentials that
	// are in the file itself. It refuses exec and auth-provider plugins, paths of files,
	// insecure-skip-tls-verify, proxy-url and impersonation.
	// +required
	KubeconfigRef KeyRef `json:"kubeconfigRef,omitzero"`

	// context is the name of the context in the kubeconfig. Absent means its
	// current-context.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^\s|\s$|[[:cntrl:]]')`,message="context must not begin or end with a space or contain control characters: copy the name from kubectl config get-contexts"
	Context *string `json:"context,omitempty"`

	// defaultNamespace is the namespace of requests that name none. Absent means the
	// namespace of the context, or "default" if the context has none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')`,message="defaultNamespace must be a namespace name of lower-case letters, digits and -: correct the spelling"
	DefaultNamespace *string `json:"defaultNamespace,omitempty"`
}

// SecretRef names a Secret in the same namespace.
type SecretRef struct {
	// name is the name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')`,message="name must be the name of a Secret in this namespace, of lower-case letters, digits, - and .: correct the spelling"
	Name string `json:"name,omitempty"`
}

// TargetRef names a ConnectionTarget in the same namespace.
type TargetRef struct {
	// name is the name of the ConnectionTarget.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')`,message="name must be the name of a ConnectionTarget in this namespace, of lower-case letters, digits, - and .: correct the spelling"
	Name string `json:"name,omitempty"`
}

// KeyRef names one key of a Secret or ConfigMap in the same namespace.
type KeyRef struct {
	// name is the name of the Secret or ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')`,message="name must be the name of an object in this namespace, of lower-case letters, digits, - and .: correct the spelling"
	Name string `json:"name,omitempty"`

	// key is the key whose value is read.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[A-Za-z0-9._-]+$')`,message="key must consist of letters, digits, -, _ and .: copy it from the object's data"
	Key string `json:"key,omitempty"`
}

// TargetType is the protocol by which a target is reached.
//
// +kubebuilder:validation:Enum=ssh;docker;kubernetes
type TargetType string

// The protocols.
const (
	TargetTypeSSH        TargetType = "ssh"
	TargetTypeDocker     TargetType = "docker"
	TargetTypeKubernetes TargetType = "kubernetes"
)

// Type returns the protocol that the spec asks for.
func (s *ConnectionTargetSpec) Type() TargetType {
	switch {
	case s.Docker != nil:
		return TargetTypeDocker
	case s.Kubernetes != nil:
		return TargetTypeKubernetes
	}
	return TargetTypeSSH
}

// ConnectionTargetStatus is what the operator has observed of a target. The operator
// writes it by server-side apply: at once when a condition changes, within seconds
// when a pool's readiness changes, once connections have settled or when a message
// changes about something that a person has to fix, and otherwise at most every 40
// seconds and only if something changed. The live API has what changes every second.
//
// +kubebuilder:validation:MinProperties=1
type ConnectionTargetStatus struct {
	// observedGeneration is the metadata.generation that the status is about. It is
	// -1 until the operator has seen the target. That tells kstatus that a new object
	// is still in progress.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, CredentialsReady and Reachable, from the first write of
	// the status, and, only while they are true, Reconciling (the operator works
	// towards Ready) and Stalled (only a change of the spec, the Secret or the server
	// helps).
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// summary is the reason of Ready, and after commas the reasons of other conditions
	// that say that something is wrong. It is for people; programs read the conditions.
	// Absent until the operator has seen the target.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Summary *string `json:"summary,omitempty"`

	// type is the protocol of the target. Absent until the operator has seen it.
	// +optional
	Type *TargetType `json:"type,omitempty"`

	// endpoint is where the target is reached, for people: user@host:port for
	// ssh, the endpoint for docker, the server's URL for kubernetes. Absent until
	// the operator knows it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=600
	Endpoint *string `json:"endpoint,omitempty"`

	// serverVersion is what the server calls itself, without control characters.
	// Absent until a connection was made.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ServerVersion *string `json:"serverVersion,omitempty"`

	// replica is the name of the operator's pod that holds the connections. Absent
	// while no pod does. A pod that takes everything over as it was writes no status
	// for this alone: until the next change, or for a day, it is the name of the
	// earlier pod.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Replica *string `json:"replica,omitempty"`

	// connections counts the connections of all pools to this target, or, if no pool
	// selects it, its connections as a jump host. Absent while there are neither.
	// +optional
	Connections ConnectionCounts `json:"connections,omitzero"`

	// useCount is how many uses of connections to this target have ended, including those
	// of pools that no longer select it. It may miss the last ones before it left a pool
	// or an operator ended. Absent until a pool selects the target.
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

	// pools are the pools that select this target, by name. Absent while no pool
	// selects it.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=512
	Pools []TargetPoolStatus `json:"pools,omitempty"`

	// lastError is the newest failure to reach the target or to keep it connected.
	// It carries no time, so that a repeated failure does not change the status.
	// Absent when the newest attempt worked.
	// +optional
	LastError *TargetError `json:"lastError,omitempty"`
}

// ConnectionCounts counts connections by what they do.
//
// +kubebuilder:validation:MinProperties=1
type ConnectionCounts struct {
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
}

// TargetPoolStatus is one pool's share of a target.
type TargetPoolStatus struct {
	// name is the name of the pool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// uid is the UID of the pool. It distinguishes the share of a deleted pool from
	// that of a new pool of the same name. Absent means unknown.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Type=string
	UID *types.UID `json:"uid,omitempty"`

	// ready says whether the target serves the pool: it has the warm connections that
	// size.minWarm asks for, or had them and still has some. Absent means unknown.
	// +optional
	Ready *bool `json:"ready,omitempty"`

	// reason says why the target is not ready for this pool, as in its conditions.
	// Absent when it is ready.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Reason *string `json:"reason,omitempty"`

	// minWarm is the size.minWarm of the pool. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinWarm *int32 `json:"minWarm,omitempty"`

	// desired is how many warm connections the pool wants now. Schedules count.
	// Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Desired *int32 `json:"desired,omitempty"`

	// connections counts the pool's connections to this target. Absent means
	// unknown.
	// +optional
	Connections ConnectionCounts `json:"connections,omitzero"`

	// useCount is how many uses of them have ended since the pool selected the target. It
	// may miss the last ones before an operator ended. Absent means unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	UseCount *int64 `json:"useCount,omitempty"`

	// oldestConnectionTime is when the oldest warm one of them was made. Absent while
	// there is none. It may be up to a day behind.
	// +optional
	OldestConnectionTime *metav1.Time `json:"oldestConnectionTime,omitempty"`

	// lastUsedTime is when a use of one of them last ended. Absent until the first
	// use has ended.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
}

// TargetError is a classified failure.
type TargetError struct {
	// reason is the class of the failure, one of the condition reasons.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`

	// message says in one plain sentence what happened and what to do next.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// stage is the step that failed, such as "resolve", "connect", "host key" or
	// "authentication". Absent when the failure belongs to no step.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Stage *string `json:"stage,omitempty"`
}
