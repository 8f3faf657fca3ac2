// Package driver defines what it means to reach a target, for any protocol. A Driver
// turns an Endpoint into a Dialer, a Dialer makes Conns, and a Conn offers what its
// protocol can do as one-method capabilities that callers discover by type assertion
// (Execer, Forwarder, PodForwarder, Proxier, Listener).
//
// A Dialer tells the Trace of its Endpoint which stages it passes, so that a person can
// see where and why a dial fails.
//
// Every error that leaves a driver is an *Error. It is classified once, here, into a
// Reason that users see in conditions, with the Stage that failed and whether the
// command may have started. It belongs to the caller that gets it, who may change it.
// The code above switches on the Reason, and never looks at the errors of a protocol.
//
// The package imports the standard library only, so that code that uses a connection
// does not depend on how it is made. The packages below it are the protocols (ssh,
// docker, kube) and the mechanisms that they share.
package driver

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Driver speaks one protocol.
type Driver interface {
	// Prepare checks an endpoint without any I/O and returns what dials it.
	// An error is an *Error whose reason says what to correct: CredentialsMissing,
	// CredentialsInvalid, HostKeysInvalid, CertificateInvalid for an expired client
	// certificate, or ProtocolError for an address that the protocol does not know.
	Prepare(Endpoint) (Dialer, error)
}

// Dialer makes connections to one endpoint. It is safe for concurrent use.
type Dialer interface {
	// Dial makes one authenticated connection or fails with an *Error. It
	// bounds every stage by itself and ends early when ctx ends.
	Dial(ctx context.Context) (Conn, error)
	// With returns a dialer by the same preparation whose Endpoint is changed in what
	// Prepare does not look at: Dial, Reopen, Trace, ForwardOnly and the keepalive. A
	// change of Dial sets Reopen, too.
	With(change func(*Endpoint)) Dialer
}

// Warner is a Dialer that does without a part of its endpoint.
type Warner interface {
	// Warning says without which and why, as safe as an Error's Message; empty if none.
	Warning() string
}

// DialFunc opens a byte stream. It has the signature of net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// TraceFunc is told which stage a dial has passed, and what was found there.
type TraceFunc func(passed Stage, found string)

// Endpoint is everything a driver needs to reach one target.
type Endpoint struct {
	// Network is "tcp" or "unix". Empty means "tcp".
	Network string
	// Address is host:port for TCP, the absolute path of a socket for unix.
	Address string
	// User to log in as; SSH only.
	User string
	// Context of the kubeconfig; Kubernetes only. Empty means its current-context.
	Context string
	// LoginTimeout bounds the waits for a server's banner and for its answer to the login;
	// SSH only. 0 means that of the driver's other stages.
	LoginTimeout time.Duration
	// Namespace of requests that name none; Kubernetes only. Empty means that of the
	// context, or else "default".
	Namespace string
	// Credentials are the data of the target's Secret. Each driver has keys of its own.
	Credentials map[string][]byte
	// KnownHosts pins the server's identity in known_hosts syntax; SSH only.
	KnownHosts []byte
	// Dial opens the transport of a Dialer.Dial: from the operator's own network,
	// with its address policy, or through another target's connection (a jump host).
	// It does not wait for a jump host.
	Dial DialFunc
	// Reopen is Dial for what a driver opens later, on a connection that lives: it
	// may wait for a jump host. When nil, it is Dial.
	Reopen DialFunc
	// Trace is told each stage that a dial passes from the banner on, in their order and
	// one at a time, until Dial returns. Resolve and connect are not among them: they
	// belong to the DialFunc. What was found is plain text without secrets, as safe as
	// an Error's Message. It must not block. It may be nil.
	Trace TraceFunc
	// ForwardOnly says that the connection is to a jump host: no command runs on it, so
	// it need not have a session; SSH only.
	ForwardOnly bool
	// KeepaliveInterval is how often a connection asks the server for a sign of life,
	// idle or busy; 0 means never. KeepaliveTimeout bounds each answer. A connection
	// without an answer in time is closed.
	KeepaliveInterval time.Duration
	KeepaliveTimeout  time.Duration
}

// Passed tells the Trace, if there is one, what was found in a stage. It makes a
// remote's words in it safe.
func (e *Endpoint) Passed(stage Stage, found string) {
	if e.Trace != nil {
		e.Trace(stage, Sanitize(found))
	}
}

// Conn is one live, authenticated connection. It is safe for concurrent use.
type Conn interface {
	// Context is done when the connection is dead. Its cause is the *Error that says
	// why, or context.Canceled after Close. Many callers read the cause, so none may
	// change it.
	Context() context.Context
	// Close ends the connection and all that runs on it, at once. Later calls
	// do nothing.
	Close() error
	// Probe makes one round trip that proves that the remote serves requests.
	Probe(ctx context.Context) error
	// Info describes the connection.
	Info() Info
}

// Info describes a live connection.
type Info struct {
	// ServerVersion is what the remote calls itself, without control
	// characters, at most 256 bytes.
	ServerVersion string
	// RemoteAddress is the resolved IP and port.
	RemoteAddress string
	// Handshake is how long it took to make the connection.
	Handshake time.Duration
	// RoundTrip is the newest measured keepalive round trip; 0 before the first.
	RoundTrip time.Duration
}

// Execer runs commands.
type Execer interface {
	// Exec runs one command to its end. A nil error means Completed: the command
	// ended with the status. Otherwise the error is an *Error whose Started tells
	// NotStarted from Unknown. When ctx ends, the remote process is signaled where the
	// server allows it, and the outcome is Unknown. The message then says what is known
	// of the end of the process.
	//
	// Exec returns only when it does not use the streams anymore, except for a Read of
	// Stdin that has not returned.
	Exec(ctx context.Context, command Command, streams Streams) (ExitStatus, error)
}

// Signaler is an Execer that sends signals to its commands.
type Signaler interface {
	// SignalsBy says what delivers them.
	SignalsBy() SignalsBy
}

// SignalsBy is what delivers the signals of a caller to a command.
type SignalsBy string

const (
	// SignalsByServer means that the target's server is told to. It does not say whether
	// it does.
	SignalsByServer SignalsBy = "Server"
	// SignalsByHelper means that a second command finds the processes of the first one.
	SignalsByHelper SignalsBy = "Helper"
)

// Command is one command for a target. At most one of Argv, Shell and Subsystem is
// set. If all are empty, the user's login shell is run.
type Command struct {
	// Place is where in the target it runs.
	Place Place
	// Argv is quoted for the shells on the way, so that arguments arrive as given.
	Argv []string
	// Shell is a command line that the remote shell interprets.
	Shell string
	// Subsystem names a service of the remote server, such as "sftp".
	Subsystem string
	// Env is set for the command. If the server refuses a variable, nothing is started.
	Env map[string]string
	// TTY asks for a pseudo terminal; stderr then arrives on stdout.
	TTY *TTY
}

// CheckText returns an error if the command or its environment holds a NUL byte. It may
// hold bytes that are not UTF-8, unless notUTF8 ends the sentence that says why not.
func (c *Command) CheckText(notUTF8 string) *Error {
	for _, word := range slices.Concat(c.Argv, []string{c.Shell, c.Subsystem},
		slices.Collect(maps.Keys(c.Env)), slices.Collect(maps.Values(c.Env))) {
		switch {
		case strings.ContainsRune(word, 0):
			return Errorf(ProtocolError, StageStart,
				"the command or its environment holds a NUL byte, which no process can receive; remove it")
		case notUTF8 != "" && !utf8.ValidString(word):
			return Errorf(ProtocolError, StageStart, "the command or its environment is not UTF-8, %s", notUTF8)
		}
	}
	return nil
}

// Place is a container of a Docker engine or a pod of a cluster, in which a command
// runs or a port is reached. It is zero for a host.
type Place struct {
	// Container of the engine, by name or ID, or of the pod, by name. For a pod it may
	// be empty: then it is the pod's default or only container.
	Container string
	// Pod and its Namespace. An empty Namespace means that of the Endpoint.
	Pod, Namespace string
}

// TTY describes the pseudo terminal of a command.
type TTY struct {
	// Term is the terminal type; "xterm" when empty.
	Term string
	// Size is the initial window.
	Size WindowSize
	// Resize delivers later sizes until it is closed. It may be nil.
	Resize <-chan WindowSize
}

// WindowSize is a terminal's size in character cells.
type WindowSize struct{ Columns, Rows uint16 }

// Streams are the standard streams of a command. A nil reader is an empty input, a nil
// writer discards. A reader that fails, or a writer that fails, ends the command with
// an unknown outcome. The command does not see the end of an input that fails: half an
// input must not look like a whole one.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signals are sent to the command as they come, if the Conn is a Signaler. It may
	// be nil, and need not be closed.
	Signals <-chan Signal
	// Started is called once when the server has accepted the command: it answers that it
	// starts it. It must not block. It may be nil.
	Started func()
}

// Accepted calls Started, if there is one.
func (s *Streams) Accepted() {
	if s.Started != nil {
		s.Started()
	}
}

// Signal is the name of a signal without SIG, one of Signals.
type Signal string

// Signals are those that a caller can send to a command.
var Signals = []Signal{"HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM"}

// ExitStatus is how a command ended. If a signal ended it and the protocol says so,
// Signal is its name without SIG ("KILL"), and Code is 128 plus its number where that
// is known, else 255.
type ExitStatus struct {
	Code   int
	Signal string
}

// HalfCloser is a stream whose writing side can be closed alone. The other side then
// reads to the end, and can still answer.
type HalfCloser interface{ CloseWrite() error }

// CloseWrite closes the writing side of a stream. The error is
// errors.ErrUnsupported if the stream is not a HalfCloser.
func CloseWrite(stream any) error {
	if half, ok := stream.(HalfCloser); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Forwarder opens streams from the target's side.
type Forwarder interface {
	// Forward connects to address as seen from the target. The network is
	// "tcp" or "unix".
	Forward(ctx context.Context, network, address string) (net.Conn, error)
}

// PodForwarder opens streams to the ports of a cluster's pods.
type PodForwarder interface {
	// ForwardPod connects to a port of the pod, from within its network.
	ForwardPod(ctx context.Context, pod Place, port uint16) (net.Conn, error)
	// PodPort returns the number of a port of the pod, which is given by its number, by
	// its name, or as "" for none in particular. It fails if there is no such pod.
	PodPort(ctx context.Context, pod Place, port string) (uint16, error)
}

// Proxier passes requests on to the target's own HTTP API.
type Proxier interface {
	// Proxy sends one request with the credentials of the connection, and returns its
	// answer, with any status. The request's URL has a path and a query only. An upgrade
	// that is accepted has status 101 and a body that is an io.ReadWriteCloser, as that
	// of http.Transport. Proxy follows no redirects. An error is an *Error whose Started
	// tells whether the request may have been received.
	Proxy(request *http.Request) (*http.Response, error)
}

// Listener accepts streams on the target's side.
type Listener interface {
	// Listen listens on address as seen from the target. The network is "tcp"
	// or "unix". The listener ends with the connection.
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}
