// Package kubestream is the client side of the streams of Kubernetes: a command
// in the exec protocol v5.channel.k8s.io, and connections to ports, which are
// SPDY streams in a WebSocket.
//
//	socket, response, err := kubestream.Upgrade(ctx, dialer, address, header, heartbeat)
//
//	status, err := kubestream.Run(ctx, socket, kubestream.Streams{Stdout: os.Stdout})
//
//	forwarder, err := kubestream.NewForwarder(socket)
//	conn, err := forwarder.Dial(ctx, "80")
//
// The driver of clusters uses it with kube-apiserver, and the Go client with the live
// API. The package moves bytes, and returns what happened as one of its errors. The
// caller decides what that means for a command: its outcome and its reason. Once a
// request may have been sent, only a refusal that Upgrade returns can prove that the
// command was not started.
//
// # When the peer is dead
//
// One rule holds for clients, and for the server in internal/stream. A peer is dead
// when it sent nothing for some time, although this side was reading, and although
// the peer would have sent something if it lived. It would have done so in two cases:
//
//   - It sends pings unasked, and goes on while its data is stuck. The live API's
//     server and client-go do that.
//   - It always reads, as servers do, and it has confirmed all messages of this side:
//     it answered a ping that was sent after the last one.
//
// Silence alone proves nothing. A peer whose input is stuck answers no ping, and this
// side does not read while it waits for a slow writer of the caller. A dead peer may
// have done what it was asked to do: ErrSilent never means "not started".
//
// # Trade-offs
//
// client-go has executors for the same protocols. They hide the answer to the upgrade
// and the last status, which tell whether a command was started, and their fallback
// sends the command again over SPDY.
//
// The channels of a WebSocket have no flow control of their own. So a slow writer of
// the caller stops the whole command: the alternative is to keep its output in memory.
package kubestream

import (
	"errors"
	"time"
)

// Why a stream ended. Other errors are those of the network.
var (
	// ErrSilent means that the peer is dead, by the rule of this package.
	ErrSilent = errors.New("the server gave no sign of life")
	// ErrSubprotocol means that the server upgraded to a protocol that was not asked for.
	ErrSubprotocol = errors.New("the server chose another protocol")
	// ErrExtension means that the server compresses, which was not asked for. The
	// WebSocket library would unfold a mebibyte to a gigabyte.
	ErrExtension = errors.New("the server chose a WebSocket extension that was not asked for")
	// ErrProtocol means that the server sent a status that cannot be read.
	ErrProtocol = errors.New("unreadable status")
	// ErrInput means that the caller's Stdin failed. The end of the input was not sent.
	ErrInput = errors.New("read stdin")
	// ErrOutput means that one of the caller's writers failed.
	ErrOutput = errors.New("handle the output")
	// ErrClosed means that the connection to the server is lost or closed.
	ErrClosed = errors.New("the connection to the API server is closed")
)

const (
	// frameBytes is how much data goes into one message. With the heads of its layers, that
	// fills two records of TLS, without a third one for the last bytes.
	frameBytes = 32<<10 - 16
	// maxMessageBytes bounds a message of the server, which sends a few dozen KiB.
	maxMessageBytes = 1 << 20
	// window is how much data may wait for the reader of the only connection of a socket.
	window = 128 << 10
	// maxStatusBytes bounds the status of a command. Kubelets send a sentence.
	maxStatusBytes = 64 << 10
	// lastWords is how long the end of a stream waits for the other side.
	lastWords = time.Second
)
